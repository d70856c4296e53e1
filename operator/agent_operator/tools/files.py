"""Kubernetes objects that stand in files, in folders, or on standard input; YAML or JSON."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import yaml

from agent_operator.api.agent import KIND
from agent_operator.controller.bodies import whole
from agent_operator.tools.errors import InputError

_HALF = re.compile("[\ud800-\udfff]")

SUFFIXES = {".yaml", ".yml", ".json"}


@dataclass(frozen=True)
class Found:
    """An object, and where it stands: its file, and the how-manieth of that file it is, from 1."""

    file: str
    index: int
    document: dict[str, Any]

    @property
    def title(self) -> str:
        """What it is called in messages, also when it has no name."""
        metadata = self.document.get("metadata")
        name = metadata.get("name") if isinstance(metadata, dict) else None
        return f"{self.document.get('kind')} {name or f'number {self.index}'}"


def read_agents(sources: Sequence[str], stdin: TextIO) -> tuple[list[Found], list[str]]:
    """Every `AgentDeployment` of the sources, and a line for each file that cannot be read.

    A source is a file, a folder (its YAML and JSON files, at any depth), or "-" for `stdin`. Objects of other kinds are
    passed over; sources without any agent at all are a fault.
    """
    found: list[Found] = []
    faults: list[str] = []
    for source in sources:
        try:
            for file, text in _texts(source, stdin):
                _read(file, text, found, faults)
        except InputError as error:
            faults += error.lines
    if not found and not faults:
        faults = [f"{', '.join(sources)}: no {KIND} found: give a file, a folder or - that holds one"]
    return found, faults


def _read(file: str, text: str, found: list[Found], faults: list[str]) -> None:
    try:
        documents = list(_documents(file, text))
    except InputError as error:
        faults += error.lines
        return
    found += [
        Found(file, index, document)
        for index, document in enumerate(documents, start=1)
        if document.get("kind") == KIND
    ]


def _texts(source: str, stdin: TextIO) -> Iterator[tuple[str, str]]:
    if source == "-":
        try:
            yield "standard input", stdin.read()
        except UnicodeDecodeError as error:
            raise InputError(f"standard input: cannot be read: {error}") from error
        return
    path = Path(source)
    if not path.exists():
        raise InputError(f"{source}: no such file or folder")
    for file in _files(path):
        try:
            yield str(file), file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{file}: cannot be read: {error}") from error


def _files(path: Path) -> Iterable[Path]:
    if not path.is_dir():
        return [path]
    return sorted(file for file in path.rglob("*") if file.suffix in SUFFIXES and file.is_file())


def _documents(file: str, text: str) -> Iterator[dict[str, Any]]:
    """The objects of one file; a `List` stands for its items. JSON is YAML (YAML 1.2, section 1.3)."""
    try:
        documents = list(yaml.load_all(text, Loader=_Loader))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"{file}: not valid YAML: {_why(error)}") from error
    for document in documents:
        items = document.get("items") if isinstance(document, dict) and document.get("kind") == "List" else None
        for item in items if isinstance(items, list) else [document]:
            if isinstance(item, dict):
                yield item
            elif item is not None:
                raise InputError(f"{file}: holds {type(item).__name__} where a Kubernetes object should be")


def _why(error: Exception) -> str:
    """What is wrong and where; not PyYAML's own message, which quotes the line, and that may hold a key."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    mark = getattr(error, "problem_mark", None)
    if not isinstance(error, yaml.MarkedYAMLError) or mark is None:
        return type(error).__name__
    return f"line {mark.line + 1}, column {mark.column + 1}: {error.problem or error.context}"


class _Loader(yaml.SafeLoader):
    """YAML as Kubernetes reads it.

    In JSON two escapes make one character beyond U+FFFF, and U+FFFD stands for half of a pair (Go's encoding/json). In
    other YAML such an escape is an error (go-yaml); for PyYAML each would be a character, which no file can hold.
    """

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._is_json = stream.lstrip().startswith("{")

    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> Any:
        value = super().construct_scalar(node)
        if value.isascii() or _HALF.search(value) is None:
            return value
        if not self._is_json:
            raise yaml.constructor.ConstructorError(None, None, "an escape is half of a character", node.start_mark)
        return whole(value)


# sigs.k8s.io/yaml knows no timestamps: 2026-01-01 is text there, and would be a date here.
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
