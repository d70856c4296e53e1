"""YAML as we write it."""

from collections.abc import Iterable
from typing import Any

import yaml


def to_yaml(document: Any) -> str:
    """One YAML document: order kept, text not escaped, no aliases between equal parts."""
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def to_yaml_stream(documents: Iterable[Any]) -> str:
    """Several documents, each begun by its marker."""
    return "".join(f"---\n{to_yaml(document)}" for document in documents)


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True
