"""buildah with a storage of its own: nothing of the machine's is touched, and nothing is left of a killed run."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from testbed import system, together
from testbed.console import say
from testbed.errors import TestbedError

# In namespaces of their own, processes and mounts go when the first of them does (pid_namespaces(7)), and that one goes
# with us, however we go (prctl(2), PR_SET_PDEATHSIG): a killed build leaves no pip running and no overlay mounted.
CONTAINED = (
    *("setpriv", "--pdeathsig", "KILL", "--"),
    *("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"),
)
# One build of both images takes 0.7 GB. Layers that no build uses any more are not told from others; past this size
# all go, which costs one build from the start.
STORAGE_LIMIT_BYTES = 4 * 2**30
LOG_TAIL_LINES = 20
COMMANDS = ("buildah", "setpriv")


def run(command: list[str | Path], log: Path, environment: Mapping[str, str] | None = None) -> None:
    """Run `command` with `environment` besides ours and its output added to `log`.

    Raises TestbedError with the end of the log when it fails.
    """
    with log.open("a") as output:
        code = together.run(
            command,
            on_line=lambda line: print(line, file=output, flush=True),
            environment=os.environ | dict(environment or {}),
        )
    if code != 0:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:])
        raise TestbedError(f"Making the images failed (is the network there?). The end of {log}:\n{tail}")


class Buildah:
    """The images and layers under `folder`, and the commands that make them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._storage = folder / "storage"
        self._temporary = folder / "tmp"
        self._command: list[str | Path] = [*CONTAINED, "buildah", "--storage-driver", "overlay"]
        self._command += ["--root", self._storage / "root", "--runroot", self._storage / "run"]

    def prepare(self) -> None:
        """Make buildah ready to build. Raises TestbedError without root, or when it cannot be installed."""
        system.need_root("Building images with buildah")
        system.need(*COMMANDS)
        if self._storage.exists() and _size(self._storage) > STORAGE_LIMIT_BYTES:
            say("    emptying the storage of layers, which has grown large")
            shutil.rmtree(self._storage, ignore_errors=True)
        # What killed builds left goes: their temporary files and their containers.
        shutil.rmtree(self._temporary, ignore_errors=True)
        self._temporary.mkdir()
        run([*self._command, "rm", "--all"], self.folder / "buildah.log")

    def has(self, reference: str) -> bool:
        """Whether the storage holds the image `reference`."""
        inspect = [*self._command, "inspect", "--type", "image", reference]
        return subprocess.run(inspect, capture_output=True, check=False).returncode == 0

    def build(
        self, reference: str, context: Path, options: list[str], log: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        """Build `context` as the image `reference`."""
        # chroot isolation needs no cgroups and no network set-up; docker's format keeps the HEALTHCHECK.
        how = ["--isolation", "chroot", "--format", "docker", "--layers"]
        environment = {"TMPDIR": str(self._temporary)} | dict(environment or {})
        run([*self._command, "build", *how, *options, "--tag", reference, context], log, environment)

    def save(self, reference: str, archive: Path, log: Path) -> None:
        """Write the image `reference` to `archive`, as `docker save` would."""
        run([*self._command, "push", "--quiet", reference, f"docker-archive:{archive}:{reference}"], log)


def _size(folder: Path) -> int:
    """What `folder` takes on the disk, in bytes; du(1) is several times faster than a walk from here."""
    told = subprocess.run(["du", "-s", "--block-size=1", folder], capture_output=True, text=True, check=True).stdout
    return int(told.split()[0])
