"""`agent-operator render`: the objects of agents that stand in files, without a cluster."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import yaml

from agent_operator.api.agent import KIND, InvalidAgentError, parse
from agent_operator.manifests import desired
from agent_operator.manifests.form import Document

SUFFIXES = {".yaml", ".yml", ".json"}


class RenderError(Exception):
    """Input that cannot be rendered; each line names the file, the object and the field."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


def render(source: str, stdin: TextIO, *, namespace: str) -> list[Document]:
    """The objects of every `AgentDeployment` in a file, in a folder's YAML and JSON files, or on `stdin` for "-".

    Objects of other kinds are passed over. `namespace` is for agents that name none. Raises RenderError with all
    faults of all files.
    """
    objects: list[Document] = []
    faults: list[str] = []
    found = False
    for file, text in _texts(source, stdin):
        for index, document in enumerate(_documents(file, text), start=1):
            if document.get("kind") != KIND:
                continue
            found = True
            try:
                agent = parse(document, namespace=namespace)
            except InvalidAgentError as error:
                faults += [f"{file}: {_title(document, index)}: {fault}" for fault in error.faults]
            else:
                objects += desired(agent.name, agent.namespace, agent.spec)
    if faults:
        raise RenderError(faults)
    if not found:
        raise RenderError([f"{source}: no {KIND} found: give a file, a folder or - that holds one"])
    return objects


def _texts(source: str, stdin: TextIO) -> Iterator[tuple[str, str]]:
    if source == "-":
        yield "standard input", stdin.read()
        return
    path = Path(source)
    if not path.exists():
        raise RenderError([f"{source}: no such file or folder"])
    files = sorted(file for file in path.rglob("*") if file.suffix in SUFFIXES) if path.is_dir() else [path]
    for file in files:
        try:
            yield str(file), file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise RenderError([f"{file}: cannot be read: {error}"]) from error


def _documents(file: str, text: str) -> Iterator[dict[str, Any]]:
    """The objects of one file; a `List` stands for its items. JSON is YAML (YAML 1.2, section 1.3)."""
    try:
        documents = list(yaml.load_all(text, Loader=_Loader))
    except yaml.YAMLError as error:
        raise RenderError([f"{file}: not valid YAML: {' '.join(str(error).split())}"]) from error
    for document in documents:
        items = document.get("items") if isinstance(document, dict) and document.get("kind") == "List" else None
        for item in items if isinstance(items, list) else [document]:
            if isinstance(item, dict):
                yield item
            elif item is not None:
                raise RenderError([f"{file}: holds {type(item).__name__} where a Kubernetes object should be"])


def _title(document: dict[str, Any], index: int) -> str:
    metadata = document.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    return f"{KIND} {name or f'number {index}'}"


class _Loader(yaml.SafeLoader):
    """YAML as Kubernetes reads it."""


# sigs.k8s.io/yaml knows no timestamps: 2026-01-01 is text there, and would be a date here.
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
