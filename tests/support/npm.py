"""npm packages of a lock file, for tests: installed once into the cache."""

import hashlib
import shutil
import subprocess
from pathlib import Path

from testbed import paths
from testbed.console import step
from testbed.errors import TestbedError
from testbed.locks import exclusive


def node() -> str:
    """Return the path of Node.js."""
    found = shutil.which("node")
    if found is None:
        raise TestbedError("Node.js is needed for npm packages of the tests; install it")
    return found


def packages(folder: Path) -> Path:
    """Return the folder of the packages in the `package-lock.json` of a folder; install them if they are not there.

    `npm install --package-lock-only --ignore-scripts` made the lock; it has the digest of every package.
    """
    lock = folder / "package-lock.json"
    name = folder.name.replace("_", "-")
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()[:16]
    installed = paths.cache() / "npm" / f"{name}-{digest}"
    complete = installed / ".complete"
    with exclusive(installed.with_suffix(".lock"), f"installs {name} from npm"):
        if not complete.exists():
            with step(f"Installing {name} from npm"):
                installed.mkdir(parents=True, exist_ok=True)
                for file in ("package.json", "package-lock.json"):
                    shutil.copy(folder / file, installed / file)
                command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
                done = subprocess.run(command, cwd=installed, capture_output=True, text=True, check=False)
                if done.returncode != 0:
                    raise TestbedError(f"{lock} could not be installed:\n{done.stderr[-1000:]}")
            complete.touch()
    return installed / "node_modules"
