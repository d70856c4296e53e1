"""The commands that a user of a cluster works with: kubectl, helm, `kubectl agent` and agent-operator."""

import sys
from pathlib import Path

from testbed import binaries
from testbed.errors import TestbedError

PROGRAMS = ("kubectl", "helm")
# kubectl finds a plugin and its completion by these names on PATH (`kubectl completion --help`).
OURS = ("kubectl-agent", "kubectl_complete-agent", "agent-operator")


def search_path(folder: Path) -> str:
    """Return the beginning of a PATH that has all of these commands; `folder` is created for links to our own.

    The environment's own folder would also put its Python and all its tools first.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in OURS:
        program = Path(sys.executable).parent / name
        if not program.exists():
            raise TestbedError(f"{program} is missing: run make .venv/.dev")
        link = folder / name
        if not (link.is_symlink() and link.readlink() == program):
            link.unlink(missing_ok=True)
            link.symlink_to(program)
    return f"{binaries.search_path(*PROGRAMS)}:{folder}"
