"""References of tools to servers of ToolHive, kmcp and kagent: where each has its address, and when it has none."""

from http import HTTPStatus
from typing import Any, cast

import pytest

from agent_operator.api.agent import AgentDeployment
from agent_operator.api.mcp import ServerRef
from agent_operator.api.spec import AgentSpec
from agent_operator.controller.reconcile.server_address import UnresolvedError, address_of
from agent_operator.controller.reconcile.server_references import References, refers
from agent_operator.controller.status.tool_lists import status_of_servers
from agent_operator.kube.errors import ApiError
from agent_operator.kube.reader import Reader
from agent_operator.kube.resources import Resource

Document = dict[str, Any]

TOOLHIVE = {"group": "toolhive.stacklok.dev", "kind": "MCPServer", "name": "clock"}
KMCP = {"group": "kagent.dev", "kind": "MCPServer", "name": "clock"}
REMOTE = {"group": "kagent.dev", "kind": "RemoteMCPServer", "name": "clock"}
PROXY = {"url": "http://mcp-clock-proxy.tools.svc.cluster.local:8080/mcp"}


def server(spec: Document, status: Document | None = None) -> Document:
    return {"metadata": {"name": "clock", "namespace": "tools"}, "spec": spec, "status": status or {}}


def address(reference: Document, spec: Document, status: Document | None = None, namespace: str = "tools") -> str:
    return address_of(ServerRef.model_validate(reference), server(spec, status), namespace)


@pytest.mark.parametrize(
    ("spec", "status", "expected"),
    [
        ({}, PROXY, PROXY["url"]),
        ({"transport": "streamable-http", "proxyMode": "sse"}, PROXY, PROXY["url"]),
        ({"transport": "stdio", "proxyMode": "streamable-http", "proxyPort": 8080}, PROXY, PROXY["url"]),
        # ToolHive does not correct its status when the port changes.
        ({"proxyPort": 9000}, PROXY, "http://mcp-clock-proxy.tools.svc.cluster.local:9000/mcp"),
    ],
)
def test_a_server_of_toolhive_is_behind_its_proxy(spec: Document, status: Document, expected: str) -> None:
    assert address(TOOLHIVE, spec, status) == expected


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"transportType": "stdio", "deployment": {"port": 3000}}, "http://clock.tools.svc:3000/mcp"),
        ({"transportType": "stdio"}, "http://clock.tools.svc:3000/mcp"),
        ({"transportType": "http", "httpTransport": {"targetPort": 80}}, "http://clock.tools.svc:3000/mcp"),
        (
            {"transportType": "http", "deployment": {"port": 80}, "httpTransport": {"path": "/api/mcp"}},
            "http://clock.tools.svc:80/api/mcp",
        ),
    ],
)
def test_a_server_of_kmcp_is_behind_a_service_of_its_name(spec: Document, expected: str) -> None:
    assert address(KMCP, spec) == expected


@pytest.mark.parametrize(
    ("spec", "namespace"),
    [
        ({}, "tools"),
        ({"protocol": "STREAMABLE_HTTP", "allowedNamespaces": {"from": "Same"}}, "tools"),
        ({"allowedNamespaces": {"from": "All"}}, "prod"),
    ],
)
def test_a_remote_server_of_kagent_has_its_address_in_the_spec(spec: Document, namespace: str) -> None:
    url = "https://mcp.example.com/mcp?tenant=a"

    assert address(REMOTE, {**spec, "url": url}, namespace=namespace) == url


@pytest.mark.parametrize(
    ("reference", "spec", "status", "words"),
    [
        (TOOLHIVE, {}, {}, "has no status.url yet"),
        (TOOLHIVE, {"transport": "sse"}, PROXY, "uses the transport sse"),
        (TOOLHIVE, {"proxyMode": "sse"}, PROXY, "set its proxyMode to streamable-http"),
        (TOOLHIVE, {"proxyPort": "a/b"}, PROXY, "has no address of the form"),
        (KMCP, {}, {}, "has no transportType"),
        (KMCP, {"transportType": "http", "httpTransport": {"tls": {"secretRef": "a"}}}, {}, "sets httpTransport.tls"),
        (KMCP, {"transportType": "http", "httpTransport": {"path": "mcp"}}, {}, "is not a URL path"),
        (REMOTE, {"url": "https://a/mcp", "protocol": "SSE"}, {}, "uses the protocol SSE"),
        (REMOTE, {"url": "a/mcp"}, {}, "has no address of the form"),
        (REMOTE, {"url": "http://me:secret@a/mcp"}, {}, "has no address of the form"),
        (REMOTE, {"url": "http://a:99999/mcp"}, {}, "has no address of the form"),
        (REMOTE, {}, {}, "has no address of the form"),
    ],
)
def test_a_server_without_a_usable_address_is_reported_with_what_to_do(
    reference: Document, spec: Document, status: Document, words: str
) -> None:
    with pytest.raises(UnresolvedError) as error:
        address(reference, spec, status)

    assert words in str(error.value)
    assert "secret@" not in str(error.value)


@pytest.mark.parametrize("allowed", [None, {"from": "Same"}, {"from": "Selector", "selector": {}}])
def test_the_owner_of_a_remote_server_decides_which_namespaces_refer_to_it(allowed: Document | None) -> None:
    with pytest.raises(UnresolvedError, match=r"spec\.allowedNamespaces"):
        address(REMOTE, {"url": "https://a/mcp", "allowedNamespaces": allowed}, namespace="prod")


class Served:
    """The reads of an API server that serves these versions and objects."""

    def __init__(self, versions: set[str], objects: dict[tuple[str, str], Document], code: int = 0) -> None:
        self.versions, self.objects, self.code = versions, objects, code
        self.reads: list[tuple[str, str, str]] = []

    async def get(self, resource: Resource, namespace: str, name: str) -> Document | None:
        if self.code:
            raise ApiError(self.code, "Refused", "no")
        self.reads.append((resource.version, namespace, name))
        return self.objects.get((namespace, name)) if resource.version in self.versions else None

    async def is_served(self, resource: Resource) -> bool:
        return resource.version in self.versions


def agent(**tool: Any) -> AgentDeployment:
    entry = {"name": "clock", "mcp": {"serverRef": {**TOOLHIVE, "namespace": "tools"}}, **tool}
    spec = AgentSpec.model_validate({"agent": {"provider": "echo"}, "tools": [entry]})
    return AgentDeployment("hello", "prod", spec)


def references(served: Served) -> References:
    return References(cast("Reader", served))


@pytest.mark.parametrize("versions", [{"v1beta1", "v1alpha1"}, {"v1alpha1"}])
async def test_a_reference_becomes_an_address_in_whichever_version_the_cluster_serves(versions: set[str]) -> None:
    resolved = await references(Served(versions, {("tools", "clock"): server({}, PROXY)})).resolve(agent(), {})

    (tool,) = resolved.agent.spec.tools or []
    assert tool.mcp is not None
    assert (tool.mcp.url, tool.mcp.server_ref) == (PROXY["url"], None)
    assert not resolved.problems
    assert refers(agent())
    assert not refers(resolved.agent)


@pytest.mark.parametrize(
    ("served", "words"),
    [
        (Served({"v1beta1"}, {}), "does not exist"),
        (Served(set(), {}), "is of a kind that the cluster does not have"),
        (Served({"v1beta1"}, {}, HTTPStatus.FORBIDDEN), "grant it get of mcpservers.toolhive.stacklok.dev"),
        (Served({"v1beta1"}, {("tools", "clock"): server({"transport": "sse"}, PROXY)}), "uses the transport sse"),
    ],
)
@pytest.mark.parametrize("stops", [False, True])
async def test_a_problem_names_the_entry_and_the_object(served: Served, words: str, stops: bool) -> None:
    resolved = await references(served).resolve(agent(onUnavailable="fail" if stops else "continue"), {})

    (problem,) = resolved.problems
    assert problem.reason == "ToolServerUnresolved"
    start = "tools[clock].mcp.serverRef: MCPServer tools/clock (toolhive.stacklok.dev) "
    assert problem.message.startswith(start)
    assert words in problem.message
    assert resolved.stops is stops
    assert refers(resolved.agent)


async def test_an_api_server_that_fails_changes_no_address() -> None:
    with pytest.raises(ApiError):
        await references(Served({"v1beta1"}, {}, HTTPStatus.INTERNAL_SERVER_ERROR)).resolve(agent(), {})


async def test_reconciles_in_quick_succession_share_one_read() -> None:
    served = Served({"v1beta1"}, {("tools", "clock"): server({}, PROXY)})
    known = references(served)

    for _ in range(3):
        await known.resolve(agent(), {})

    assert served.reads == [("v1beta1", "tools", "clock")]


KEPT = {"name": "clock", "reference": "MCPServer tools/clock (toolhive.stacklok.dev)", "url": PROXY["url"]}


@pytest.mark.parametrize(
    "served", [Served({"v1beta1"}, {}), Served(set(), {}), Served({"v1beta1"}, {}, HTTPStatus.FORBIDDEN)]
)
async def test_an_object_that_is_gone_keeps_its_last_address(served: Served) -> None:
    resolved = await references(served).resolve(agent(onUnavailable="fail"), {"toolServers": [KEPT]})

    (tool,) = resolved.agent.spec.tools or []
    assert tool.mcp is not None
    assert tool.mcp.url == PROXY["url"]
    (problem,) = resolved.problems
    assert f"its last address stays in use ({PROXY['url']})" in problem.message
    assert not resolved.stops
    assert status_of_servers([tool], {}, resolved.addresses, 1, {}) == [KEPT]


@pytest.mark.parametrize(
    ("served", "kept"),
    [
        (Served({"v1beta1"}, {}), {**KEPT, "reference": "MCPServer tools/other (toolhive.stacklok.dev)"}),
        (Served({"v1beta1"}, {}), {"name": "clock", "hash": "00000000000a"}),
        (Served({"v1beta1"}, {("tools", "clock"): server({"transport": "sse"}, PROXY)}), KEPT),
    ],
)
async def test_the_address_of_another_object_or_of_one_that_cannot_be_used_is_not_kept(
    served: Served, kept: Document
) -> None:
    resolved = await references(served).resolve(agent(), {"toolServers": [kept]})

    assert refers(resolved.agent)
    assert not resolved.addresses
