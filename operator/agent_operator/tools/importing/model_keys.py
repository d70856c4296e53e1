"""Environment variables of a container that configure its access to a model: the gateway has that access instead."""

import re
from typing import Any

from agent_operator.tools.importing.draft import Draft, object_of, objects_of, text_of

API_KEY = "ANTHROPIC_API_KEY"
BASE_URL = "ANTHROPIC_BASE_URL"
MODEL = "ANTHROPIC_MODEL"
OPENAI_KEY = "OPENAI_API_KEY"
OPENAI_URL = "OPENAI_BASE_URL"
AUTH_TOKEN = "ANTHROPIC_AUTH_TOKEN"  # noqa: S105  the name of a variable

# Variables whose literal value is a credential, and values that look like one.
_CREDENTIALS = {API_KEY, AUTH_TOKEN, OPENAI_KEY}
_LIKE_A_KEY = re.compile(r"^sk-[A-Za-z0-9_-]{16,}$")

NOT_PRINTED = (
    "the value is a key and is not printed. Put it into a Secret (`kubectl create secret generic NAME "
    "--from-literal={name}=…`) and set {field}"
)


def environment(draft: Draft, variables: Any, source: str) -> list[dict[str, Any]]:
    """Return the variables for the runtime. Those for Claude go into `apiKey` and `agent` of the draft instead."""
    kept = []
    for each in objects_of(variables):
        name = text_of(each.get("name"))
        path = f"{source}[{name}]"
        if name == API_KEY:
            _api_key(draft, each, path)
        elif name == AUTH_TOKEN:
            draft.lost(path, "the gateway authenticates with a key: set apiKey.secretName to a Secret that has one")
        elif name == BASE_URL:
            _base_url(draft, each, path)
        elif name == MODEL and text_of(each.get("value")):
            draft.put("agent.model", each["value"], f"{path}.value")
            draft.note(path, "is agent.model now, and reaches the runtime as ANTHROPIC_MODEL")
        elif is_literal_key(each):
            draft.lost(path, NOT_PRINTED.format(name=name, field="runtime.env[].valueFrom.secretKeyRef"))
        else:
            kept.append(each)
    return _own_openai(draft, kept, source)


def is_literal_key(variable: dict[str, Any]) -> bool:
    """Return whether a variable contains a credential itself, instead of a reference to a Secret."""
    value = text_of(variable.get("value"))
    return bool(value) and (variable.get("name") in _CREDENTIALS or _LIKE_A_KEY.match(value) is not None)


def without_literal_keys(draft: Draft, container: dict[str, Any], source: str) -> dict[str, Any]:
    """Return a sidecar or init container without variables that contain a credential themselves."""
    variables = objects_of(container.get("env"))
    literal = [each for each in variables if is_literal_key(each)]
    for each in literal:
        name = text_of(each.get("name"))
        draft.lost(
            f"{source}.env[{name}]", NOT_PRINTED.format(name=name, field="valueFrom.secretKeyRef of the variable")
        )
    kept = [each for each in variables if each not in literal]
    others = {key: value for key, value in container.items() if key != "env"}
    return {**others, "env": kept} if kept else others


def _api_key(draft: Draft, variable: dict[str, Any], path: str) -> None:
    reference = object_of(object_of(variable.get("valueFrom")).get("secretKeyRef"))
    if text_of(reference.get("name")):
        draft.put("apiKey.secretName", reference["name"], f"{path}.valueFrom.secretKeyRef.name")
        draft.put("apiKey.secretKey", reference.get("key"), f"{path}.valueFrom.secretKeyRef.key")
        draft.note(path, "is apiKey now: the gateway holds the key, and the runtime receives a placeholder")
    elif text_of(variable.get("value")):
        draft.lost(path, NOT_PRINTED.format(name=API_KEY, field="apiKey.secretName"))
    else:
        draft.lost(path, "does not refer to a Secret: set apiKey.secretName to the Secret that contains the key")


def _base_url(draft: Draft, variable: dict[str, Any], path: str) -> None:
    if text_of(variable.get("value")):
        draft.put("agent.baseUrl", variable["value"], f"{path}.value")
        draft.note(path, "is agent.baseUrl now: the gateway calls this address, and the runtime calls the gateway")
    else:
        draft.lost(path, "agent.baseUrl is an address, not a reference: write the address there")


def _own_openai(draft: Draft, variables: list[dict[str, Any]], source: str) -> list[dict[str, Any]]:
    """Keep a runtime's own access to OpenAI: OPENAI_BASE_URL would otherwise lead its key to the gateway."""
    names = {each.get("name") for each in variables}
    if OPENAI_KEY not in names or OPENAI_URL in names:
        return variables
    draft.note(
        f"{source}[{OPENAI_KEY}]",
        f"the runtime keeps its own access to OpenAI, which the gateway neither counts nor limits; {OPENAI_URL} is set "
        "to OpenAI's address for that. Remove both to call agent.model through the gateway",
    )
    return [*variables, {"name": OPENAI_URL, "value": "https://api.openai.com/v1"}]
