"""YAML in the form that Portside writes."""

from collections.abc import Iterable
from typing import Any

import yaml


def to_yaml(document: Any) -> str:
    """Return one YAML document. Order is kept, text is not escaped, and equal parts are not aliased."""
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def to_yaml_stream(documents: Iterable[Any]) -> str:
    """Return a stream of YAML documents, each preceded by its marker."""
    return "".join(f"---\n{to_yaml(document)}" for document in documents)


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


# Characters that YAML 1.1 treats as line breaks: outside double quotes they would be folded into spaces. Also
# characters that change the direction of a line: the tools show them escaped, which only double quotes allow.
_QUOTED = frozenset("\x85\u2028\u2029\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
# kubectl reads these as booleans, PyYAML as plain text.
_SHORT_BOOLEANS = frozenset("yYnN")


def _text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    quoted = text in _SHORT_BOOLEANS or not _QUOTED.isdisjoint(text)
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"' if quoted else None)


_Dumper.add_representer(str, _text)
