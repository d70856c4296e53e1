"""Becomes another program that ends, by SIGTERM, when the thread that started it does: also when that one is killed.

    python -I -S pdeathsig.py PARENT_PID PROGRAM ARGUMENT...

A program of its own, because the parent has threads: between fork and exec only what needs no lock is safe there.
"""

import ctypes
import os
import signal
import sys

# prctl(2). The setting outlives an exec.
_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Set it, see that the parent is still there, and become the program."""
    parent, *program = sys.argv[1:]
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(parent):
        sys.exit(1)
    os.execv(program[0], program)  # noqa: S606  no shell is wanted


if __name__ == "__main__":
    main()
