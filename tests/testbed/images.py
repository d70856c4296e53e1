"""The images of Portside, built from the Dockerfile on this machine: with Docker where it runs, else with buildah.

No registry can be reached from everywhere that the tests run, so buildah starts from a base that `base_image` makes.
"""

import hashlib
import os
import subprocess
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from testbed import base_image, system
from testbed.console import say, step
from testbed.errors import TestbedError
from testbed.locks import exclusive
from testbed.paths import REPOSITORY, cache

# What .dockerignore lets into the build, and the two files that say how it is done.
SOURCES = (
    "Dockerfile",
    ".dockerignore",
    "LICENSE",
    "README.md",
    "pyproject.toml",
    "requirements",
    "service",
    "operator",
)
TARGETS = {"service": "portside.dev/agent-service", "operator": "portside.dev/agent-operator"}
LOG_TAIL_LINES = 20


@dataclass(frozen=True)
class Image:
    """A built image: the name that manifests use, and the archive (as `docker save` writes it) that holds it."""

    reference: str
    archive: Path


def build_all() -> list[Image]:
    """Build the images of all targets, or take them from the cache when nothing that goes into them changed.

    Raises TestbedError with the end of the builder's output when a build fails.
    """
    with exclusive(_folder() / ".lock", "it builds the images"):
        builder = Docker() if system.docker_works() else Buildah()
        return [_build(builder, target) for target in TARGETS]


def reference(target: str) -> str:
    """The name of the image of `target`, as manifests use it."""
    return f"{TARGETS[target]}:{version('portside')}"


class Buildah:
    """Builds as root with no daemon; its layers are kept in our own cache folder and nowhere else."""

    def __init__(self) -> None:
        system.need_root("Building images with buildah")
        system.need("buildah")
        self.storage = _folder() / "storage"
        self._base = os.environ.get("PYTHON_IMAGE") or base_image.provide(self.storage)

    @property
    def identity(self) -> str:
        """What of the builder goes into the images."""
        return f"buildah {self._base}"

    def build(self, target: str, reference: str, archive: Path) -> None:
        """Build `target` of the Dockerfile as `reference`, and write it to `archive`."""
        base = ["--build-arg", f"PYTHON_IMAGE={self._base}"]
        # chroot isolation needs no cgroups and no network set-up; docker's format keeps the HEALTHCHECK.
        how = ["--isolation", "chroot", "--format", "docker", "--layers"]
        buildah = base_image.buildah(self.storage)
        run([*buildah, "build", *how, *base, "--target", target, "--tag", reference, REPOSITORY], target)
        run([*buildah, "push", "--quiet", reference, f"docker-archive:{archive}:{reference}"], target)


class Docker:
    """Builds with the Docker daemon of this machine."""

    def __init__(self) -> None:
        self._base = os.environ.get("PYTHON_IMAGE", "")

    @property
    def identity(self) -> str:
        """What of the builder goes into the images."""
        return f"docker {self._base}"

    def build(self, target: str, reference: str, archive: Path) -> None:
        """Build `target` of the Dockerfile as `reference`, and write it to `archive`."""
        base = ["--build-arg", f"PYTHON_IMAGE={self._base}"] if self._base else []
        run(["docker", "build", *base, "--target", target, "--tag", reference, REPOSITORY], target)
        run(["docker", "save", "--output", archive, reference], target)


def run(command: list[str | Path], name: str) -> None:
    """Run a builder's command with its output in a log; raise TestbedError with the end of the log when it fails."""
    log = _folder() / f"{name}.log"
    with log.open("wb") as output:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, check=False)
    if done.returncode != 0:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:])
        raise TestbedError(f"Building the image {name} failed (is the network there?). The end of {log}:\n{tail}")


def _build(builder: Buildah | Docker, target: str) -> Image:
    name = reference(target)
    archive = _folder() / f"{target}-{_digest(builder.identity)}.tar"
    if archive.exists():
        say(f"    {name} is built already")
        return Image(name, archive)
    with step(f"Building {name}"):
        for old in _folder().glob(f"{target}-*"):
            old.unlink()
        partial = archive.with_suffix(".partial")
        builder.build(target, name, partial)
        partial.rename(archive)  # a whole archive or none
    return Image(name, archive)


def _digest(identity: str) -> str:
    digest = hashlib.sha256(identity.encode())
    for source in SOURCES:
        top = REPOSITORY / source
        files = [top] if top.is_file() else sorted(path for path in top.rglob("*") if path.is_file())
        for file in files:
            if "__pycache__" not in file.parts:
                digest.update(f"{file.relative_to(REPOSITORY)}\0".encode() + file.read_bytes())
    return digest.hexdigest()[:16]


def _folder() -> Path:
    folder = cache() / "images"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
