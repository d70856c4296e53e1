"""`kubectl agent import`: tools of kagent's agents become references to the same servers, and never allow more."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_operator.api.agent import AgentDeployment
from agent_operator.api.validation import parse
from agent_operator.tools.importing.belongings import Belongings
from agent_operator.tools.importing.convert import convert_all
from agent_operator.tools.importing.deployment import Choices

Document = dict[str, Any]

HERE = "kagent"
PATH = "spec.declarative.tools[0]"
SERVER = f"{PATH}.mcpServer"


def agent(*tools: Any) -> Document:
    """Return an Agent of kagent with these tools."""
    declarative = {"systemMessage": "You help.", "modelConfig": "claude", "tools": list(tools)}
    return {
        "apiVersion": "kagent.dev/v1alpha2",
        "kind": "Agent",
        "metadata": {"name": "helper", "namespace": HERE},
        "spec": {"type": "Declarative", "declarative": declarative},
    }


def tool(name: str = "docs", kind: str = "RemoteMCPServer", **server: Any) -> Document:
    """Return a tool of kagent that names a server."""
    return {"type": "McpServer", "mcpServer": {"apiGroup": "kagent.dev", "kind": kind, "name": name, **server}}


def remote(namespace: str = HERE, **spec: Any) -> Document:
    return {
        "apiVersion": "kagent.dev/v1alpha2",
        "kind": "RemoteMCPServer",
        "metadata": {"name": "docs", "namespace": namespace},
        "spec": {"description": "Documents", "url": "http://docs.test/mcp", **spec},
    }


def header(name: str, kind: str = "Secret") -> Document:
    return {"name": name, "valueFrom": {"type": kind, "name": "docs", "key": "token"}}


def converted(workload: Document, *around: Document) -> tuple[list[Document], dict[str, str], AgentDeployment]:
    """Return the tools of the result, what was reported by field, and the result as it was parsed."""
    (found,) = convert_all([workload], Belongings([workload, *around]), Choices())
    tools: list[Document] = found.document["spec"].get("tools", [])
    return tools, {each.field: each.message for each in found.notes}, parse(found.document)


def test_a_server_becomes_a_reference_with_the_names_that_the_agent_may_call() -> None:
    tools, notes, _ = converted(agent(tool(toolNames=["search", "get"])), remote(timeout="1m30s"))

    reference = {"group": "kagent.dev", "kind": "RemoteMCPServer", "name": "docs"}
    assert tools == [
        {"name": "docs", "mcp": {"serverRef": reference}, "allow": ["search", "get"], "timeoutSeconds": 90}
    ]
    assert not any(field.startswith(PATH) for field in notes)


def test_servers_without_a_kind_are_those_of_kmcp_and_names_are_made_unique() -> None:
    plain = {"type": "McpServer", "mcpServer": {"name": "Docs.V1", "namespace": "tools"}}

    tools, notes, _ = converted(agent(tool("docs-v1"), plain))

    assert [each["name"] for each in tools] == ["docs-v1"]
    # Kubernetes has no object of that name, so the reference is left out.
    assert "spec.declarative.tools[docs-v1-2]" in notes
    named = {"type": "McpServer", "mcpServer": {"name": "docs.v1", "namespace": "tools"}}
    tools, _, _ = converted(agent(tool("docs-v1"), named, tool("docs-v1", namespace=HERE)))
    assert [each["name"] for each in tools] == ["docs-v1", "docs-v1-2", "docs-v1-3"]
    assert tools[1]["mcp"]["serverRef"] == {
        "group": "kagent.dev",
        "kind": "MCPServer",
        "name": "docs.v1",
        "namespace": "tools",
    }
    assert "namespace" not in tools[2]["mcp"]["serverRef"]


def test_a_tool_that_requires_approval_still_does() -> None:
    tools, _, _ = converted(agent(tool(toolNames=["get", "delete"], requireApproval=["delete"])), remote())

    assert (tools[0]["allow"], tools[0]["approve"]) == (["get", "delete"], ["delete"])


@pytest.mark.parametrize(
    "server",
    [
        {"toolNames": [f"tool_{number}" for number in range(65)]},
        {"toolNames": ["get_*"]},
        {"toolNames": ["get"], "requireApproval": ["get?"]},
        {"toolNames": ["with space"]},
        {"toolNames": ["x" * 129]},
    ],
)
def test_names_that_allow_cannot_express_leave_the_server_out(server: Document) -> None:
    tools, notes, _ = converted(agent(tool(**server)), remote())

    assert tools == []
    assert any(field.startswith("spec.declarative.tools[") for field in notes)


def test_headers_from_secrets_are_carried_over_and_others_are_reported() -> None:
    own = [header("Authorization"), header("X-Team", "ConfigMap"), {"name": "X-Key", "value": "a-secret-value"}]
    with_headers = {**tool(), "headersFrom": [header("X-Tenant")]}

    tools, notes, _ = converted(agent(with_headers), remote(headersFrom=own))

    key = {"name": "docs", "key": "token"}
    assert tools[0]["mcp"]["headersFrom"] == [
        {"name": "Authorization", "secretKeyRef": key},
        {"name": "X-Tenant", "secretKeyRef": key},
    ]
    where = "RemoteMCPServer/docs: spec.headersFrom"
    assert {f"{where}[X-Team]", f"{where}[X-Key]"} <= notes.keys()
    assert "a-secret-value" not in str(notes)


def test_secrets_of_another_namespace_are_reported() -> None:
    server = remote("docs", headersFrom=[header("Authorization")], allowedNamespaces={"from": "All"})

    tools, notes, _ = converted(agent(tool(namespace="docs")), server)

    assert tools[0]["mcp"] == {
        "serverRef": {"group": "kagent.dev", "kind": "RemoteMCPServer", "name": "docs", "namespace": "docs"}
    }
    assert "copy them into that of the agent" in notes["RemoteMCPServer/docs: spec.headersFrom"]


@pytest.mark.parametrize(
    ("around", "words"),
    [
        ([], "was not found"),
        ([remote(protocol="SSE")], "RemoteMCPServer/docs uses the protocol SSE"),
        ([remote(url="ftp://docs")], "RemoteMCPServer/docs has no address"),
    ],
)
def test_a_server_that_cannot_be_used_as_it_is_is_noted(around: list[Document], words: str) -> None:
    tools, notes, _ = converted(agent(tool()), *around)

    assert len(tools) == 1
    assert words in notes[SERVER]


def test_the_token_of_the_caller_is_passed_on_where_kagent_does() -> None:
    tools, notes, _ = converted(agent(tool(allowedHeaders=["Authorization", "X-Trace"])), remote())

    assert tools[0]["mcp"]["forwardCaller"] is True
    assert "those of tasks" in notes[f"{SERVER}.allowedHeaders[Authorization]"]
    assert f"{SERVER}.allowedHeaders[X-Trace]" in notes
    tools, notes, _ = converted(
        agent(tool(allowedHeaders=["authorization"])), remote(headersFrom=[header("authorization")])
    )
    assert "forwardCaller" not in tools[0]["mcp"]
    assert "has one header Authorization" in notes[f"{SERVER}.allowedHeaders[authorization]"]


@pytest.mark.parametrize(
    ("given_tool", "field", "words"),
    [
        ({"type": "Agent", "agent": {"name": "other"}}, f"{PATH}.agent", "call other from a runtime"),
        (tool(kind="Service"), SERVER, "a Service of kagent.dev"),
        (tool(apiGroup="example.com"), SERVER, "a RemoteMCPServer of example.com"),
    ],
)
def test_a_tool_that_is_no_server_is_reported(given_tool: Document, field: str, words: str) -> None:
    tools, notes, _ = converted(agent(given_tool), remote())

    assert tools == []
    assert words in notes[field]


_VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-3, 70_000), st.text("abA/.-_:*{ \x00", max_size=6)),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(("name", "kind", "valueFrom", "type", "key")), inner, max_size=4)
    ),
    max_leaves=6,
)
_SERVER = st.sampled_from(
    ("kind", "name", "apiGroup", "namespace", "toolNames", "requireApproval", "allowedHeaders", "headersFrom")
)


@given(
    server=st.dictionaries(_SERVER, _VALUES, max_size=6),
    settings=st.dictionaries(st.sampled_from(("timeout", "headersFrom", "url", "protocol")), _VALUES, max_size=4),
)
def test_every_result_is_valid_and_allows_no_more(server: Document, settings: Document) -> None:
    tools, _, _ = converted(agent({**tool(), "mcpServer": {"name": "docs", **server}}), remote(**settings))

    names = server.get("toolNames")
    if tools and isinstance(names, list) and any(isinstance(each, str) and each for each in names):
        assert set(tools[0]["allow"]) <= {each for each in names if isinstance(each, str)}
    asked = server.get("requireApproval")
    if tools and isinstance(asked, list):
        assert set(tools[0].get("approve", [])) == {each for each in asked if isinstance(each, str) and each}
