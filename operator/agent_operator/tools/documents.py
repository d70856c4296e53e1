"""Kubernetes objects from files, folders, or standard input; YAML or JSON."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from agent_operator.api.agent import GROUP, KIND
from agent_operator.api.agent_class import CLASS_KIND
from agent_operator.tools.errors import InputError
from agent_operator.tools.kubectl_yaml import Reading, decode, read
from agent_operator.tools.yaml_nodes import UnreadableError

SUFFIXES = {".yaml", ".yml", ".json"}


@dataclass(frozen=True)
class Found:
    """An object and its location: its file, and its position in that file, from 1.

    `repeated` has the paths of duplicate keys, of which the last counts.
    """

    file: str
    index: int
    document: dict[str, Any]
    repeated: tuple[str, ...] = ()

    @property
    def is_class(self) -> bool:
        """Whether it is an `AgentClass`."""
        return self.document.get("kind") == CLASS_KIND

    @property
    def title(self) -> str:
        """The object's name in messages, even if it is unnamed."""
        metadata = self.document.get("metadata")
        name = metadata.get("name") if isinstance(metadata, dict) else None
        return f"{self.document.get('kind')} {name or f'number {self.index}'}"


def read_agents(sources: Sequence[str], stdin: TextIO, *, classes: bool = False) -> tuple[list[Found], list[str]]:
    """Return every `AgentDeployment` of the sources, and a line for each file that cannot be read.

    A source is a file, a folder (its YAML and JSON files, at any depth), or "-" for `stdin`. Objects of other groups
    are skipped, and so is each `AgentClass` unless `classes`. Sources without any of these objects are a fault.
    """
    objects, faults = read_objects(sources, stdin)
    found = [each for each in objects if _is_ours(each.document) or (classes and each.is_class)]
    if not found and not faults:
        faults = [f"{', '.join(sources)}: no {KIND} found: specify a file, a folder or - that contains one"]
    return found, faults


def read_objects(sources: Sequence[str], stdin: TextIO) -> tuple[list[Found], list[str]]:
    """Return every object of the sources, of any kind, and a line for each file that cannot be read."""
    found: list[Found] = []
    faults: list[str] = []
    for source in sources:
        try:
            for file, data in _contents(source, stdin):
                _read(file, data, found, faults)
        except InputError as error:
            faults += error.lines
    return found, faults


def _read(file: str, data: bytes, found: list[Found], faults: list[str]) -> None:
    try:
        # Objects before a fault are still checked, because kubectl applies them.
        for index, reading in enumerate(_objects(file, data), start=1):
            found.append(Found(file, index, reading.value, reading.repeated))
    except InputError as error:
        faults += error.lines


def _is_ours(document: dict[str, Any]) -> bool:
    """Return whether the document is or should be an agent: the other kind of our group is that of its class."""
    of_group = str(document.get("apiVersion")).startswith(f"{GROUP}/")
    return document.get("kind") == KIND or (of_group and document.get("kind") != CLASS_KIND)


def _contents(source: str, stdin: TextIO) -> Iterator[tuple[str, bytes]]:
    if source == "-":
        # Bytes if available, so that kubectl's rules determine the encoding.
        buffer = getattr(stdin, "buffer", None)
        yield "standard input", buffer.read() if buffer is not None else stdin.read().encode()
        return
    path = Path(source)
    if not path.exists():
        raise InputError(f"{source}: no such file or folder")
    for file in _files(path):
        try:
            yield str(file), file.read_bytes()
        except OSError as error:
            raise InputError(f"{file}: cannot be read: {error}") from error


def _files(path: Path) -> Iterable[Path]:
    if not path.is_dir():
        return [path]
    return sorted(file for file in path.rglob("*") if file.suffix in SUFFIXES and file.is_file())


def _objects(file: str, data: bytes) -> Iterator[Reading]:
    """Yield the objects of one file, with lists split into their items."""
    try:
        for reading in read(decode(data)):
            if reading.value is not None:
                yield from _flat(file, reading)
    except UnreadableError as error:
        raise InputError(f"{file}: not valid YAML: {error}") from error


def _flat(file: str, reading: Reading) -> Iterator[Reading]:
    """Yield the items of a list, or the object itself (apimachinery, unstructured: with `items` it is a list)."""
    document = reading.value
    if not isinstance(document, dict):
        raise InputError(f"{file}: contains {type(document).__name__} where a Kubernetes object is expected")
    items = document.get("items")
    if not isinstance(items, list):
        yield reading
        return
    for item in items:
        if isinstance(item, dict) and not item.get("kind") and not item.get("apiVersion"):
            inferred = {
                "kind": str(document.get("kind")).removesuffix("List"),
                "apiVersion": document.get("apiVersion"),
            }
            yield from _flat(file, Reading({**item, **inferred}, reading.repeated))
        else:
            yield from _flat(file, Reading(item, reading.repeated))
