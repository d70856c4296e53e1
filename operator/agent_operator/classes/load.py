"""Classes from a file, where they cannot be read from the cluster."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from agent_operator.api.agent_class import CLASS_KIND, InvalidClassError, parse_class
from agent_operator.classes.choice import Classes


class ClassError(ValueError):
    """A file of classes that cannot be used. The message contains the file and the reason."""


def load_classes(path: Path) -> Classes:
    """Return the classes of a YAML file with AgentClass objects, or of a folder with such files.

    Objects of other kinds are skipped. Raises ClassError, also if a class is not valid.
    """
    found = {}
    for file in _files(path):
        for document in _documents(file):
            if document.get("kind") != CLASS_KIND:
                continue
            try:
                one = parse_class(document)
            except InvalidClassError as error:
                raise ClassError(f"{file}: {CLASS_KIND} is not valid: {error}") from error
            if one.name in found:
                raise ClassError(f"{file}: {CLASS_KIND} {one.name} is there twice: remove one")
            found[one.name] = one
    if not found:
        raise ClassError(f"{path}: no {CLASS_KIND} found: specify a file that contains one")
    return Classes(found)


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    # The kubelet keeps its own links in the folder of a ConfigMap, under names that begin with a dot.
    return sorted(each for each in path.iterdir() if not each.name.startswith(".") and each.is_file())


def _documents(file: Path) -> Iterator[Mapping[str, Any]]:
    try:
        documents = list(yaml.safe_load_all(file.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ClassError(f"{file}: cannot be read: {type(error).__name__}") from error
    for document in documents:
        if isinstance(document, Mapping):
            items = document.get("items")
            yield from (each for each in items if isinstance(each, Mapping)) if isinstance(items, list) else [document]
