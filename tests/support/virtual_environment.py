"""Python environments of other people's programs, from a lock file, kept in the cache."""

import hashlib
import subprocess
import sys
from pathlib import Path

from testbed import paths
from testbed.console import step
from testbed.errors import TestbedError
from testbed.locks import exclusive


def virtual_environment(name: str, lock: Path) -> Path:
    """Return the folder of an environment with the packages of `lock`; install it if it is not in the cache.

    Raises TestbedError if the packages cannot be installed.
    """
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()[:16]
    folder = paths.cache() / "python" / f"{name}-{digest}"
    complete = folder / ".complete"
    with exclusive(folder.with_suffix(".lock"), f"installs {name}"):
        if not complete.exists():
            with step(f"Installing {name} into an environment of its own"):
                _install(folder, lock)
            complete.touch()
    return folder


def _install(folder: Path, lock: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
    uv: list[str | Path] = [Path(sys.executable).with_name("uv"), "pip", "install", "--quiet", "--require-hashes"]
    command = [*uv, "--python", folder / "bin" / "python", "--requirement", lock]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise TestbedError(f"{lock} could not be installed (is the network up?):\n{done.stderr[-1000:]}")
