"""The images of Portside, built from the Dockerfile on this machine: with Docker where it runs, otherwise with buildah.

The tests also run where no registry is reachable, so buildah starts from a base that `base_image` makes.
PYTHON_IMAGE names another base for either builder.
"""

import ast
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Protocol

from testbed import base_image, buildah, system, together
from testbed.console import say, step
from testbed.locks import exclusive
from testbed.paths import REPOSITORY, cache

# What .dockerignore admits to the build, and the two files that define the build.
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
# Where pip finds packages; its other settings are specific to this machine and have no meaning inside a build.
INDEX_SETTINGS = ("index-url", "extra-index-url", "trusted-host")
# What a release states about itself in the images' labels, as far as it is known here.
_OF_RELEASE = (f"--build-arg=VERSION={version('portside')}",)


@dataclass(frozen=True)
class Image:
    """A built image: the name that manifests use, and the archive (as written by `docker save`) that holds it."""

    reference: str
    archive: Path


class Builder(Protocol):
    """A builder of the Dockerfile's targets."""

    @property
    def identity(self) -> str:
        """The part of the builder that goes into the images."""

    def prepare(self) -> None:
        """Get ready; called before the first build, and only when there is something to build."""

    def build(self, target: str, context: Path, archive: Path) -> None:
        """Build `target` of the Dockerfile in `context`, and write it to `archive`. Raises TestbedError on failure."""

    def build_one(self, context: Path, name: str, archive: Path) -> None:
        """Build any other Dockerfile in `context` as the image `name`, and write it to `archive`, likewise."""


def build_all() -> list[Image]:
    """Build the images of all targets, or take them from the cache when none of their inputs changed.

    Raises TestbedError with the end of the builder's output when a build fails.
    """
    folder = _folder()
    with exclusive(folder / ".lock", "builds the images"), _snapshot() as context:
        builder: Builder = _Docker() if system.docker_works() else _Buildah()
        digest = _digest(context, builder.identity)
        images = {target: Image(reference(target), folder / f"{target}-{digest}.tar") for target in TARGETS}
        missing = [target for target, image in images.items() if not image.archive.exists()]
        if missing:
            builder.prepare()
        for target, image in images.items():
            together.check()
            if target in missing:
                with step(f"Building {image.reference}"):
                    _build(builder, target, context, image.archive)
            else:
                say(f"    {image.reference} is already built")
        return list(images.values())


def build(context: Path, name: str, archive: Path) -> None:
    """Build the Dockerfile in the folder `context` as the image `name`, and write it to `archive`.

    Its argument PYTHON_IMAGE gets the base of our own images, which is there where no registry is reachable.
    Raises TestbedError with the end of the builder's output when the build fails.
    """
    with exclusive(_folder() / ".lock", "builds the images"):
        builder: Builder = _Docker() if system.docker_works() else _Buildah()
        builder.prepare()
        with step(f"Building {name}"):
            builder.build_one(context, name, archive)


def commands() -> tuple[str, ...]:
    """Return the commands that building the images needs on this machine: none where Docker runs."""
    if system.docker_works():
        return ()
    return buildah.COMMANDS if "PYTHON_IMAGE" in os.environ else (*buildah.COMMANDS, *base_image.COMMANDS)


def reference(target: str) -> str:
    """Return the name of the image of `target`, as manifests use it."""
    return f"{TARGETS[target]}:{version('portside')}"


def renamed(image: Image, name: str, archive: Path) -> Image:
    """Return the same image under another name, written to `archive`."""
    with tarfile.open(image.archive) as old, tarfile.open(archive, "w") as new:
        for member in old:
            content = old.extractfile(member)
            if member.name == "manifest.json" and content is not None:
                [manifest] = json.load(content)
                written = json.dumps([{**manifest, "RepoTags": [name]}]).encode()
                member.size, content = len(written), io.BytesIO(written)
            new.addfile(member, content)
    return Image(name, archive)


class _Buildah:
    """A builder that runs as root, without a daemon."""

    def __init__(self) -> None:
        self._buildah = buildah.Buildah(_folder())
        self._own_base = "PYTHON_IMAGE" not in os.environ
        self._base = os.environ.get("PYTHON_IMAGE") or base_image.reference()

    @property
    def identity(self) -> str:
        return f"buildah {self._base}"

    def prepare(self) -> None:
        self._buildah.prepare()
        if self._own_base:
            base_image.provide(self._buildah)

    def build(self, target: str, context: Path, archive: Path) -> None:
        index = _index()
        options = [f"--build-arg=PYTHON_IMAGE={self._base}", f"--target={target}", *_OF_RELEASE, *_build_args(index)]
        log = _log(target)
        self._buildah.build(reference(target), context, options, log, index)
        self._buildah.save(reference(target), archive, log)

    def build_one(self, context: Path, name: str, archive: Path) -> None:
        index = _index()
        options = [f"--build-arg=PYTHON_IMAGE={self._base}", *_build_args(index)]
        log = _log("own")
        self._buildah.build(name, context, options, log, index)
        self._buildah.save(name, archive, log)


class _Docker:
    """A builder that uses the Docker daemon of this machine."""

    def __init__(self) -> None:
        self._base = os.environ.get("PYTHON_IMAGE")

    @property
    def identity(self) -> str:
        return f"docker {self._base}"

    def prepare(self) -> None:
        """Do nothing: the daemon is running."""

    def build(self, target: str, context: Path, archive: Path) -> None:
        index = _index()
        options = [f"--target={target}", f"--tag={reference(target)}", *_OF_RELEASE, *_build_args(index)]
        if self._base:
            options.append(f"--build-arg=PYTHON_IMAGE={self._base}")
        log = _log(target)
        buildah.run(["docker", "build", *options, context], log, index)
        buildah.run(["docker", "save", "--output", archive, reference(target)], log)

    def build_one(self, context: Path, name: str, archive: Path) -> None:
        index = _index()
        options = [f"--tag={name}", *_build_args(index)]
        if self._base:
            options.append(f"--build-arg=PYTHON_IMAGE={self._base}")
        log = _log("own")
        buildah.run(["docker", "build", *options, context], log, index)
        buildah.run(["docker", "save", "--output", archive, name], log)


def _build(builder: Builder, target: str, context: Path, archive: Path) -> None:
    """Build to a temporary name, so that an archive is whole or absent; of the older archives, keep only the newest."""
    partial = archive.with_suffix(".partial")
    partial.unlink(missing_ok=True)  # left by a killed run; builders do not overwrite an archive
    for old in sorted(archive.parent.glob(f"{target}-*.tar"), key=lambda path: path.stat().st_mtime)[:-1]:
        old.unlink()
    builder.build(target, context, partial)
    partial.rename(archive)
    say(f"    {archive.stat().st_size / 1e6:.0f} MB, uncompressed")


@contextmanager
def _snapshot() -> Iterator[Path]:
    """Yield a copy of the sources: what is hashed is what is built, even if a file is saved meanwhile."""
    folder = _folder() / "sources"
    shutil.rmtree(folder, ignore_errors=True)  # left by a killed run
    folder.mkdir()
    try:
        for source in SOURCES:
            if (REPOSITORY / source).is_dir():
                shutil.copytree(REPOSITORY / source, folder / source, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy2(REPOSITORY / source, folder / source)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _digest(context: Path, identity: str) -> str:
    digest = hashlib.sha256(identity.encode())
    for file in sorted(path for path in context.rglob("*") if path.is_file()):
        digest.update(f"\0{file.relative_to(context)}\0{file.stat().st_size}\0".encode() + file.read_bytes())
    return digest.hexdigest()[:16]


def _index() -> dict[str, str]:
    """Return the package index of pip on this machine, as the variables that the Dockerfile takes as arguments."""
    pip = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(pip, capture_output=True, text=True, check=False).stdout.splitlines()
    variables = {}
    for line in reversed(listed):  # sorted by section: the environment's (`:env:`), which wins, comes last now
        name, _, value = line.partition("=")
        setting = name.rpartition(".")[2]
        if setting in INDEX_SETTINGS:
            variables[f"PIP_{setting.upper().replace('-', '_')}"] = str(ast.literal_eval(value))
    return variables


def _build_args(variables: dict[str, str]) -> list[str]:
    """Return arguments by name alone: the builder takes the values, which may hold a password, from its environment."""
    return [f"--build-arg={name}" for name in variables]


def _log(target: str) -> Path:
    """Return the path for a new log of a build of `target`."""
    log = _folder() / f"{target}.log"
    log.unlink(missing_ok=True)
    return log


def _folder() -> Path:
    folder = cache() / "images"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
