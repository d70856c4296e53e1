"""Replace this process with a program that gets SIGTERM when the thread that started it ends, even if killed.

    python -I -S pdeathsig.py PARENT_PID PROGRAM ARGUMENT...

This is a separate program because the parent has threads: between fork and exec, only code without locks is safe.
"""

import ctypes
import os
import signal
import sys

# prctl(2). The setting is preserved across exec.
_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Set the signal, check that the parent still runs, and execute the program."""
    parent, *program = sys.argv[1:]
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(parent):
        sys.exit(1)
    os.execv(program[0], program)  # noqa: S606  no shell is wanted


if __name__ == "__main__":
    main()
