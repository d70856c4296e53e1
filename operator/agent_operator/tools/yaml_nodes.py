"""The nodes of a YAML document, as Go's parser composes them (go.yaml.in/yaml/v2)."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

# Go's parser was ported from libyaml; where PyYAML was built without it, its own parser is close enough.
_PARSER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class UnreadableError(ValueError):
    """Text that kubectl cannot read: why, and the position if known. Never quotes the text, which may be a key."""

    def __init__(self, reason: str, line: int | None = None, column: int | None = None) -> None:
        where = f"line {line}, column {column}: " if column is not None else f"line {line}: " if line else ""
        super().__init__(f"{where}{reason}")


@dataclass(slots=True)
class Node:
    """A node of Go's tree (decode.go: `node`); `alias` is the target of an alias."""

    kind: str
    value: str = ""
    tag: str = ""
    implicit: bool = False
    children: list["Node"] = field(default_factory=list)
    alias: "Node | None" = None


def compose(text: str, line: int) -> Node:
    """Return the first document of the text, the only one that Go reads (decode.go: `parser`)."""
    events = yaml.parse(text, Loader=_PARSER)
    anchors: dict[str, Node] = {}
    try:
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                root = _node(next(events), events, anchors)
                next(events)
                return root
    except RecursionError:
        raise UnreadableError("nested too deeply") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        reason = error.problem or error.context or "not valid"
        where = (line + mark.line + 1, mark.column + 1) if mark is not None else (None, None)
        raise UnreadableError(reason, *where) from None
    except yaml.YAMLError:
        raise UnreadableError("control characters are not allowed") from None
    return Node("scalar", implicit=True)


def _node(event: Any, events: Iterator[Any], anchors: dict[str, Node], *, in_flow: bool = False) -> Node:
    if isinstance(event, yaml.AliasEvent):
        if event.anchor not in anchors:
            raise UnreadableError("an alias has no anchor before it", _line(event))
        return Node("alias", alias=anchors[event.anchor])
    if isinstance(event, yaml.ScalarEvent):
        implicit = bool(event.implicit[0])
        if in_flow and not event.style and "?" in event.value:
            # scannerc.go, `yaml_parser_scan_plain_scalar`: inside braces or brackets, ? ends a plain text.
            raise UnreadableError("a text that contains ? must be quoted here", _line(event))
        node = Node("scalar", event.value, event.tag or "", implicit)
        if event.anchor is not None:
            anchors[event.anchor] = node
        return node
    mapping = isinstance(event, yaml.MappingStartEvent)
    node = Node("mapping" if mapping else "sequence")
    if event.anchor is not None:
        anchors[event.anchor] = node
    in_flow = in_flow or bool(event.flow_style)
    while not isinstance(child := next(events), yaml.MappingEndEvent | yaml.SequenceEndEvent):
        node.children.append(_node(child, events, anchors, in_flow=in_flow))
    return node


def _line(event: yaml.Event) -> int | None:
    return event.start_mark.line + 1 if event.start_mark is not None else None
