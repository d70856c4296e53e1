"""The values of the charts. Those of `helm/agent` are the fields of the spec, and values that only a chart offers."""

import json
import textwrap
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

from agent_operator.api.agent import MAX_NAME
from agent_operator.api.schema import Schema, default_is_implied, draft_07
from agent_operator.api.spec import AgentSpec

WIDTH = 100

CHART_ONLY: dict[str, Schema] = {
    "nameOverride": {
        "description": "Replaces `portside-agent` in the label app.kubernetes.io/name.",
        "type": "string",
        "maxLength": 63,
        "pattern": "^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$",
        "default": "",
    },
    "fullnameOverride": {
        "description": "Name of the agent's objects, instead of the release's name.",
        "type": "string",
        "maxLength": MAX_NAME,
        "default": "",
    },
    "extraObjects": {
        "description": "Additional objects to install with the agent; each is an object, or a string with a template.",
        "type": "array",
        "maxItems": 64,
        "items": {"type": ["object", "string"]},
        "default": [],
    },
}

# Helm passes the key `global` to every chart, and to a subchart its switch (`condition` in the parent's Chart.yaml),
# whether the chart uses them or not.
_FROM_HELM: dict[str, Schema] = {
    "global": {"description": "Set by Helm for all charts of a release.", "type": "object"},
    "enabled": {"description": "Enables this chart when it is a subchart.", "type": "boolean"},
}

# The two fields of the spec that the chart refuses. Helm shows the value that it expects, so these are their messages.
NO_REFERENCES = (
    "Only the operator can resolve a reference to an object in the cluster: write the address of the server in mcp.url"
)
NO_CLASS = "Only the operator applies classes: leave className out, and set the values themselves"


def values_schema() -> Schema:
    """Return the chart's values.schema.json as a document."""
    schema = _without_operator(draft_07(AgentSpec))
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Values of the chart agent",
        **schema,
        "properties": {**schema["properties"], **CHART_ONLY, **_FROM_HELM},
    }


def _without_operator(schema: Schema) -> Schema:
    """Return the schema of the spec with a className and a serverRef that no value matches but the message itself."""
    schema = deepcopy(schema)
    schema["properties"]["className"] = {"description": f"Not in the chart. {NO_CLASS}.", "const": NO_CLASS}
    mcp = schema["properties"]["tools"]["items"]["properties"]["mcp"]["properties"]
    mcp["serverRef"] = {"description": f"Not in the chart. {NO_REFERENCES}.", "const": NO_REFERENCES}
    return schema


def values_yaml(schema: Schema) -> str:
    """Return a chart's values.yaml, from its values.schema.json: every value with its description and its default.

    A field without a default is written as a comment. So is the default of a free-form map (`resources`): Helm would
    merge the user's values into it, where the API server replaces the map as a whole. The templates apply that default
    when the value is unset.
    """
    head = "# Generated from values.schema.json by `make generate`: do not edit.\n"
    own = {name: value for name, value in schema["properties"].items() if name not in _FROM_HELM}
    return head + "".join("\n" + _entry(name, value, 0) for name, value in own.items())


def values_table(schema: Schema) -> str:
    """Return a chart's values as a Markdown table."""
    own = {name: value for name, value in schema["properties"].items() if name not in _FROM_HELM}
    return "\n".join(["| value | default | description |", "|---|---|---|", *_rows(own)]) + "\n"


def _rows(properties: dict[str, Schema], place: str = "") -> Iterator[str]:
    for name, schema in properties.items():
        text = schema["description"].replace("|", "\\|")
        children = schema.get("properties", {}) if default_is_implied(schema) or "default" not in schema else {}
        if schema.get("additionalProperties") is True:  # documented by Kubernetes itself
            children = {}
        default = f"`{json.dumps(schema['default'])}`" if "default" in schema and not children else ""
        yield f"| `{place}{name}` | {default} | {text} |"
        yield from _rows(children, f"{place}{name}.")


def _entry(name: str, schema: Schema, depth: int) -> str:
    indent = "  " * depth
    text = _comment(schema["description"], indent)
    if "default" not in schema:
        return f"{text}{indent}# {name}:\n"
    default = schema["default"]
    if default_is_implied(schema):
        children = "".join(_entry(child, value, depth + 1) for child, value in schema["properties"].items())
        return f"{text}{indent}{name}:\n{children}"
    if isinstance(default, dict) and default:
        return f"{text}{indent}# {name}:\n{_commented_tree(default, indent)}"
    return f"{text}{indent}{name}: {json.dumps(default)}\n"


def _comment(text: str, indent: str) -> str:
    return (
        textwrap.fill(
            text,
            WIDTH,
            initial_indent=f"{indent}# ",
            subsequent_indent=f"{indent}# ",
            break_long_words=False,
            break_on_hyphens=False,
        )
        + "\n"
    )


def _commented_tree(tree: dict[str, Any], indent: str, depth: int = 1) -> str:
    text = ""
    for key, value in tree.items():
        start = f"{indent}# {'  ' * depth}{key}:"
        text += (
            f"{start}\n{_commented_tree(value, indent, depth + 1)}"
            if isinstance(value, dict)
            else f"{start} {json.dumps(value)}\n"
        )
    return text
