"""buildah with a storage of its own, separate from the machine's. A killed run leaves nothing behind."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from testbed import system, together
from testbed.console import say
from testbed.errors import TestbedError

# In namespaces of their own, processes and mounts end with the first process (pid_namespaces(7)), and that one ends
# with ours, for any reason (prctl(2), PR_SET_PDEATHSIG): a killed build leaves no pip running and no overlay mounted.
CONTAINED = (
    *("setpriv", "--pdeathsig", "KILL", "--"),
    *("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"),
)
# One build of both images takes 0.7 GB. Unused layers are not identified: beyond this size all are
# removed, at the cost of one build from scratch.
STORAGE_LIMIT_BYTES = 4 * 2**30
LOG_TAIL_LINES = 20
COMMANDS = ("buildah", "setpriv")


def run(command: list[str | Path], log: Path, environment: Mapping[str, str] | None = None) -> None:
    """Run `command` with `environment` in addition to ours, and append its output to `log`.

    Raises TestbedError with the end of the log when the command fails.
    """
    with log.open("a") as output:
        code = together.run(
            command,
            on_line=lambda line: print(line, file=output, flush=True),
            environment=os.environ | dict(environment or {}),
        )
    if code != 0:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:])
        raise TestbedError(f"Building the images failed (is the network up?). The end of {log}:\n{tail}")


class Buildah:
    """The images and layers under `folder`, and the commands that build them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._storage = folder / "storage"
        self._temporary = folder / "tmp"
        self._command: list[str | Path] = [*CONTAINED, "buildah", "--storage-driver", "overlay"]
        self._command += ["--root", self._storage / "root", "--runroot", self._storage / "run"]

    def prepare(self) -> None:
        """Make buildah ready to build. Raises TestbedError without root, or when buildah cannot be installed."""
        system.need_root("Building images with buildah")
        system.need(*COMMANDS)
        if self._storage.exists() and _size(self._storage) > STORAGE_LIMIT_BYTES:
            say("    removing all cached layers, which have grown too large")
            shutil.rmtree(self._storage, ignore_errors=True)
        # Remove what killed builds left: their temporary files and their containers.
        shutil.rmtree(self._temporary, ignore_errors=True)
        self._temporary.mkdir()
        run([*self._command, "rm", "--all"], self.folder / "buildah.log")

    def has(self, reference: str) -> bool:
        """Return whether the storage holds the image `reference`."""
        inspect = [*self._command, "inspect", "--type", "image", reference]
        return subprocess.run(inspect, capture_output=True, check=False).returncode == 0

    def build(
        self, reference: str, context: Path, options: list[str], log: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        """Build `context` as the image `reference`."""
        # chroot isolation needs no cgroups and no network setup; docker's format keeps the HEALTHCHECK.
        how = ["--isolation", "chroot", "--format", "docker", "--layers"]
        environment = {"TMPDIR": str(self._temporary)} | dict(environment or {})
        run([*self._command, "build", *how, *options, "--tag", reference, context], log, environment)

    def save(self, reference: str, archive: Path, log: Path) -> None:
        """Write the image `reference` to `archive`, as `docker save` would."""
        run([*self._command, "push", "--quiet", reference, f"docker-archive:{archive}:{reference}"], log)


def _size(folder: Path) -> int:
    """Return the disk usage of `folder` in bytes; du(1) is several times faster than a walk in Python."""
    usage = subprocess.run(["du", "-s", "--block-size=1", folder], capture_output=True, text=True, check=True).stdout
    return int(usage.split()[0])
