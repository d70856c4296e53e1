"""Compile families of programs from source in parallel. No family blocks another.

Compiling keeps all cores busy; downloading and linking do not. So the modules of all families are downloaded at once,
and the next family starts to compile when the previous one has only its last packages and its links left.
"""

import shutil
import threading
from collections.abc import Callable, Iterable, Set
from functools import partial
from pathlib import Path
from typing import Protocol

from testbed import golang, together
from testbed.console import step
from testbed.errors import TestbedError

# DWARF is for debuggers, which these programs do not need: without it, the compilers and the linker write less.
GCFLAGS = "-gcflags=all=-dwarf=false"
# A compiler lives for seconds: collecting its garbage costs more than the memory. Measured on CoreDNS, from scratch, on
# 2 cores: 79 s and 152 s of CPU with Go's defaults, 69 s and 134 s with both of these.
COMPILERS = {"GOGC": "off", "GOMEMLIMIT": "3GiB"}
# Packages are reported when their compilation starts. With so few left, some core is idle most of the time.
LAST_PACKAGES = 0.97
ERROR_LINES = 15
STALE = "{{if .Stale}}{{.ImportPath}}{{end}}"  # the packages that are not in Go's cache


class Family(Protocol):
    """A unit that is built together: a folder with a go.mod, and the arguments of `go build`."""

    @property
    def folder(self) -> str:
        """The family's name."""

    @property
    def source(self) -> Path:
        """The folder of the family's go.mod."""

    @property
    def cache(self) -> Path:
        """The folder in which the built programs are kept."""

    @property
    def tags(self) -> str:
        """Build tags, separated by commas."""

    @property
    def ldflags(self) -> str:
        """Linker flags."""

    def package(self, name: str) -> str:
        """Return the Go package of the program `name`."""


class _Turns:
    """The turn to compile: one family holds it, and the next takes it when that one has only its last packages left."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # The packages that earlier families compiled: later families find them in Go's cache.
        self.compiled: set[str] = set()

    def take(self) -> Callable[[], None]:
        """Wait for the turn, and return a function that passes it on; further calls of it do nothing."""
        while not self._lock.acquire(timeout=together.POLL_SECONDS):
            together.check()
        passed = threading.Event()

        def pass_on() -> None:
            if not passed.is_set():
                passed.set()
                self._lock.release()

        return pass_on


def build(wanted: list[tuple[Family, list[str]]]) -> None:
    """Build the named programs of each family into its cache folder, each as a whole file or not at all.

    Raises TestbedError, with the end of Go's output, at the first build that fails; the other builds are stopped then.
    """
    if not wanted:
        return
    environment = golang.environment() | COMPILERS
    turns = _Turns()
    together.together(*(partial(_family, family, names, turns, environment) for family, names in wanted))


def _family(family: Family, names: list[str], turns: _Turns, environment: dict[str, str]) -> None:
    packages = [family.package(name) for name in names]
    how = [GCFLAGS, f"-tags={family.tags}"]
    with step(f"Downloading the modules of {family.folder}"):
        listed = _go(family, ["list", "-deps", *how, "-f", STALE, *packages], environment)
    pass_on = turns.take()
    partial_folder = family.cache.with_name(f"{family.cache.name}.partial")
    try:
        with step(f"Compiling {_names(names)}") as activity:
            activity.total = to_compile(listed, turns.compiled)
            shutil.rmtree(partial_folder, ignore_errors=True)
            partial_folder.mkdir(parents=True)

            def started(package: str) -> None:
                turns.compiled.add(package)
                activity.done = min(activity.done + 1, activity.total)
                if activity.done >= activity.total * LAST_PACKAGES:
                    pass_on()

            # With one package, `-o` names its program; with several, their folder, where each has its own name.
            output = partial_folder / names[0] if len(names) == 1 else partial_folder
            command = ["build", "-v", *how, "-ldflags", family.ldflags, "-o", f"{output}{_slash(names)}", *packages]
            _go(family, command, environment, started)
            family.cache.mkdir(parents=True, exist_ok=True)
            for name in names:
                (partial_folder / name).rename(family.cache / name)
    finally:
        pass_on()
        shutil.rmtree(partial_folder, ignore_errors=True)


def _slash(names: list[str]) -> str:
    return "" if len(names) == 1 else "/"


def _names(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


def to_compile(listed: Iterable[str], compiled: Set[str]) -> int:
    """Return how many packages of the lines of `go list` are left to compile, without those in `compiled`."""
    return len({line for line in listed if line and not line.startswith("go: ")} - compiled)


def _go(
    family: Family, arguments: list[str], environment: dict[str, str], on_line: Callable[[str], None] | None = None
) -> list[str]:
    lines: list[str] = []

    def take(line: str) -> None:
        lines.append(line)
        if on_line is not None and not line.startswith("go: "):
            on_line(line)

    if together.run(["go", *arguments], on_line=take, environment=environment, folder=family.source) != 0:
        text = "\n".join(lines[-ERROR_LINES:])
        raise TestbedError(
            f"{family.folder} could not be built. If modules could not be downloaded, check the network (GOPROXY), or "
            f"put prebuilt programs into a folder and set KUBEBUILDER_ASSETS to it. The end of Go's output:\n{text}"
        )
    return lines
