"""The client protocols of an agent: settings of the service, the Service's port, and what is refused or inadvisable."""

from typing import Any

import pytest

from agent_operator.api.agent import AgentDeployment
from agent_operator.api.spec import AgentSpec
from agent_operator.api.validation import InvalidAgentError, parse
from agent_operator.manifests import desired
from agent_operator.tools.lint import advice
from agent_service.config.settings import Settings

Document = dict[str, Any]

ECHO = {"agent": {"provider": "echo"}}
RUNTIME = {"image": "example.com/agent:1"}
ALL_OFF = {"openai": False, "anthropic": False, "a2a": False}


def objects(**spec: Any) -> dict[str, Document]:
    """Return the objects of an echo agent by kind; the keyword arguments are fields of its spec."""
    model = AgentSpec.model_validate({**ECHO, **spec})
    return {each["kind"]: each for each in desired(AgentDeployment("hello", "prod", model))}


def settings(**spec: Any) -> dict[str, str]:
    """Return the settings of the client protocols, and of the agent's name and description."""
    data: dict[str, str] = objects(**spec)["ConfigMap"]["data"]
    return {name: value for name, value in data.items() if name.startswith(("API_", "AGENT_"))}


def test_an_agent_without_the_fields_has_no_setting_but_its_name() -> None:
    assert settings() == settings(api={}) == {"AGENT_NAME": "hello"}
    assert "api" not in AgentSpec.model_validate(ECHO).model_dump(by_alias=True, exclude_none=True)


def test_the_service_reads_the_fields_as_its_settings() -> None:
    api = {
        "openai": False,
        "anthropic": True,
        "a2a": False,
        "mcp": True,
        "clientTools": True,
        "maxBodyBytes": 1024,
        "maxInputTokens": 1,
    }

    assert settings(api=api, agent={"provider": "echo", "description": "Knows the berths.\nNothing else."}) == {
        "AGENT_NAME": "hello",
        "AGENT_DESCRIPTION": "Knows the berths.\nNothing else.",
        "API_OPENAI": "false",
        "API_ANTHROPIC": "true",
        "API_A2A": "false",
        "API_MCP": "true",
        "API_CLIENT_TOOLS": "true",
        "API_MAX_BODY_BYTES": "1024",
        "API_MAX_INPUT_TOKENS": "1",
    }


@pytest.mark.parametrize(
    ("description", "bytes_", "tokens"), [("a", 1024, 1), ("✓" * 1000, 67_108_864, 2_000_000), (" a\n", 2048, 2)]
)
def test_the_service_accepts_the_bounds_of_the_fields(description: str, bytes_: int, tokens: int) -> None:
    given = settings(
        agent={"provider": "echo", "description": description},
        api={"maxBodyBytes": bytes_, "maxInputTokens": tokens},
    )

    read = Settings.model_validate({name.lower(): value for name, value in given.items()} | {"model_provider": "echo"})

    assert (read.agent_name, read.api_max_body_bytes, read.api_max_input_tokens) == ("hello", bytes_, tokens)


def test_a_change_of_the_protocols_replaces_the_pods() -> None:
    before, after = (objects(api={"mcp": enabled})["Deployment"]["spec"]["template"] for enabled in (False, True))

    assert before != after


def test_the_port_of_the_service_names_a_protocol_only_on_request() -> None:
    (plain,) = objects(api={"a2a": True})["Service"]["spec"]["ports"]
    (named,) = objects(service={"appProtocol": "kgateway.dev/a2a"})["Service"]["spec"]["ports"]

    assert named == plain | {"appProtocol": "kgateway.dev/a2a"}
    assert "appProtocol" not in plain


@pytest.mark.parametrize(
    ("spec", "fault"),
    [
        (
            {"api": {"mcp": True}, "runtime": RUNTIME | {"protocol": "http"}},
            "spec.api: api has no effect with runtime.protocol http",
        ),
        ({"api": {"clientTools": True}, "runtime": RUNTIME}, "spec.api: api.clientTools needs the built-in agent"),
        ({"api": ALL_OFF | {"clientTools": True}}, "spec.api.clientTools: api.clientTools needs api.openai or"),
        ({"api": {"a2A": True}}, "spec.api.a2A: "),
        ({"api": {"openai": "true"}}, "spec.api.openai: "),
        *(({"api": {"maxBodyBytes": size}}, "spec.api.maxBodyBytes: ") for size in (1023, 67_108_865)),
        *(({"api": {"maxInputTokens": size}}, "spec.api.maxInputTokens: ") for size in (0, 2_000_001)),
        *(({"agent": {"description": text}}, "spec.agent.description: ") for text in ("", "a\0", "a" * 1001)),
        *(({"service": {"appProtocol": name}}, "spec.service.appProtocol: ") for name in ("", "a b", "A/b", "a/b/c")),
    ],
)
def test_a_fault_is_reported_with_its_field(spec: Document, fault: str) -> None:
    agent = {"apiVersion": "portside.dev/v1alpha1", "kind": "AgentDeployment", "metadata": {"name": "hello"}}
    with pytest.raises(InvalidAgentError) as refused:
        parse(agent | {"spec": ECHO | spec | {"agent": {**ECHO["agent"], **spec.get("agent", {})}}})

    assert fault in str(refused.value)


@pytest.mark.parametrize(
    "spec",
    [
        {"api": {"clientTools": True, "openai": False}},
        {"api": {"clientTools": False}, "runtime": RUNTIME},
        {"api": {"mcp": True}, "runtime": RUNTIME | {"protocol": "a2a"}},
        {"runtime": RUNTIME | {"protocol": "http"}},
        {"api": ALL_OFF},
        {"service": {"appProtocol": "http"}},
    ],
)
def test_combinations_that_work_are_accepted_without_advice(spec: Document) -> None:
    model = AgentSpec.model_validate(ECHO | spec)

    assert [fault for fault in advice(model) if fault.field.startswith(("spec.api", "spec.service"))] == []


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"api": ALL_OFF | {"maxBodyBytes": 2048}}, "spec.api.maxBodyBytes"),
        ({"api": ALL_OFF | {"maxInputTokens": 1}}, "spec.api.maxInputTokens"),
        ({"api": {"a2a": False}, "service": {"appProtocol": "kgateway.dev/a2a"}}, "spec.service.appProtocol"),
    ],
)
def test_what_has_no_effect_is_reported(spec: Document, field: str) -> None:
    assert field in [fault.field for fault in advice(AgentSpec.model_validate(ECHO | spec))]
