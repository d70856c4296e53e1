"""The reference of the endpoints, from the OpenAPI document."""

from collections.abc import Iterator
from typing import Any

from codegen import markdown
from codegen.markdown import code
from codegen.service.schema import type_text

Document = dict[str, Any]

_ABOUT = (
    "The same as the OpenAPI document, which an agent outside production serves at `/openapi.json` and `/docs`. "
    "[Call an agent](../how-to/call-an-agent.md) shows how to use them."
)
_PROTOCOLS = (
    "An agent also has the endpoints of other protocols, unless its runtime has `protocol: http`. Their requests and "
    "answers are those of the protocols; [existing clients](../how-to/clients/index.md) has what each client enters."
)
_PATHS = [
    ["OpenAI", "`/v1/chat/completions`, `/v1/responses`, `/v1/models`", "`API_OPENAI`, `api.openai`: on"],
    ["Anthropic", "`/v1/messages`, `/v1/messages/count_tokens`", "`API_ANTHROPIC`, `api.anthropic`: on"],
    [
        "A2A",
        "`/.well-known/agent-card.json` (without a key), `/a2a` and `POST /`, `/a2a/v1/…`",
        "`API_A2A`, `api.a2a`: on",
    ],
    ["MCP", "`/mcp`", "`API_MCP`, `api.mcp`: off"],
    [
        "OAuth (RFC 9728)",
        "`/.well-known/oauth-protected-resource` and `…/mcp` (without a key)",
        "`JWT_FILE`, `auth.jwt`: off",
    ],
]


def reference(document: Document) -> str:
    """Return the page, in Markdown, for an OpenAPI 3.1 document."""
    operations = [
        (method.upper(), path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    parts = [
        "# Endpoints of the agent API",
        _ABOUT,
        markdown.table(["endpoint", "description"], [_summary(*operation) for operation in operations]),
        _PROTOCOLS,
        markdown.table(["protocol", "paths", "setting, field and default"], _PATHS),
    ]
    for operation in operations:
        parts.extend(_section(*operation))
    parts.append("## Objects")
    for name, schema in sorted(document["components"]["schemas"].items()):
        parts.extend(_object(name, schema))
    return markdown.page(parts)


def _summary(method: str, path: str, operation: Document) -> list[str]:
    title = f"{method} {path}"
    return [f"[{code(title)}](#{_anchor(title)})", _first_sentence(operation.get("description", ""))]


def _section(method: str, path: str, operation: Document) -> Iterator[str]:
    yield f"## {method} {path}"
    yield str(operation.get("description", operation["summary"]))
    if operation.get("security"):
        yield "Requires a client key if the agent has any."
    if operation.get("parameters"):
        rows = [_parameter(parameter) for parameter in operation["parameters"]]
        yield markdown.table(["parameter", "in", "value", "description"], rows)
    for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
        yield f"Body: {type_text(content['schema'])}, as {code(media_type)}."
    yield markdown.table(["status", "body", "when"], [_answer(*one) for one in sorted(operation["responses"].items())])
    events = operation["responses"].get("200", {}).get("content", {}).get("text/event-stream", {}).get("itemSchema")
    if events:
        yield "The `data` of each event is a JSON object:"
        rows = [_event(event) for event in events["properties"]["data"]["contentSchema"]["oneOf"]]
        yield markdown.table(["`type`", "other fields"], rows)


def _event(schema: Document) -> list[str]:
    fields = {name: field for name, field in schema["properties"].items() if name != "type"}
    others = [
        f"{code(name)} ({type_text(field)}{'' if name in schema['required'] else ', optional'})"
        for name, field in fields.items()
    ]
    return [type_text(schema["properties"]["type"]), ", ".join(others)]


def _parameter(parameter: Document) -> list[str]:
    schema = parameter["schema"]
    value = type_text(schema) + (", required" if parameter.get("required") else _default(schema))
    return [code(parameter["name"]), parameter["in"], value, parameter.get("description", "")]


def _answer(status: str, answer: Document) -> list[str]:
    bodies = []
    for media_type, content in answer.get("content", {}).items():
        schema = content.get("schema", {})
        bodies.append(type_text(schema) if "$ref" in schema else code(media_type))
    return [code(status), " or ".join(bodies), answer["description"]]


def _object(name: str, schema: Document) -> Iterator[str]:
    yield f"### {name}"
    if schema.get("description"):
        yield schema["description"]
    required = schema.get("required", [])
    rows = [_field(field, child, required=field in required) for field, child in schema.get("properties", {}).items()]
    if rows:
        yield markdown.table(["field", "value", "description"], rows)


def _field(name: str, schema: Document, *, required: bool) -> list[str]:
    value = type_text(schema) + (", required" if required else _default(schema))
    # The description of a nullable field is one level below.
    described = [schema, *schema.get("anyOf", [])]
    return [code(name), value, next((one["description"] for one in described if "description" in one), "")]


def _default(schema: Document) -> str:
    default = schema.get("default")
    return (
        "" if default is None else f", default {code(str(default).lower() if isinstance(default, bool) else default)}"
    )


def _first_sentence(text: str) -> str:
    return " ".join(text.split()).split(". ")[0].rstrip(".")


def _anchor(title: str) -> str:
    """Return the anchor that GitHub derives from a heading."""
    kept = "".join(letter for letter in title.lower() if letter.isalnum() or letter in " -_")
    return kept.replace(" ", "-")
