"""Tools at a real API server: what the operator creates for them, and the servers of other products that they name."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.eventually import eventually
from support.operator import Namespace, agent, operator, rights_everywhere
from testbed.cluster import Cluster
from testbed.paths import REPOSITORY

DEFINITIONS = REPOSITORY / "tests" / "support" / "mcp_servers"
TOOLHIVE = "toolhive.stacklok.dev"
FOLLOWED_SECONDS = 90.0
UNRESOLVED = "http://clock.unresolved.invalid/mcp"


@pytest.fixture(scope="module")
def rights(control_plane: Cluster) -> Iterator[Path]:
    """A kubeconfig with the documented rights on the whole cluster, which has the definitions of the other products."""
    for file in sorted(DEFINITIONS.glob("*.yaml")):
        control_plane.kubectl("apply", "--server-side", "-f", str(file))
    control_plane.kubectl("wait", "--for=condition=Established", "--timeout=60s", "crd", "--all")
    with rights_everywhere(control_plane, "portside-operator-tools") as kubeconfig:
        yield kubeconfig


@pytest.fixture(scope="module")
def running(rights: Path) -> Iterator[None]:
    """The operator, on all namespaces."""
    with operator(rights):
        yield


@pytest.fixture
def here(control_plane: Cluster, namespace: str, running: None) -> Namespace:
    """A fresh namespace, watched by the operator."""
    return Namespace(control_plane, namespace)


def referring(group: str, kind: str, **tool: Any) -> dict[str, Any]:
    """Return an agent with a tool that refers to the server `clock` of its own namespace."""
    reference = {"group": group, "kind": kind, "name": "clock"}
    return agent(tools=[{"name": "clock", "mcp": {"serverRef": reference}, **tool}])


def server(version: str, kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": "clock"}, "spec": spec}


def address(here: Namespace) -> str:
    """Return the address of the only tool, as the service reads it."""
    file = here.get("configmap", "hello-tools")["data"]["tools.json"]
    url: str = json.loads(file)["tools"][0]["mcp"]["url"]
    return url


def toolhive(here: Namespace, **spec: Any) -> None:
    here.apply(server(f"{TOOLHIVE}/v1beta1", "MCPServer", {"image": "example.com/clock:1", **spec}))


def publish(here: Namespace) -> None:
    """Act as the operator of ToolHive: write the address once."""
    url = f"http://mcp-clock-proxy.{here.name}.svc.cluster.local:8080/mcp"
    patch = json.dumps({"status": {"url": url}})
    here.kubectl("patch", f"mcpservers.{TOOLHIVE}", "clock", "--subresource=status", "--type=merge", "-p", patch)


def test_the_pods_of_tools_pass_the_restricted_pod_security_standard(here: Namespace) -> None:
    code = {"configMapKeyRef": {"name": "tools", "key": "tools.py"}, "port": 8091}
    sidecar = {"name": "clock", "mcp": {"sidecar": {"image": "example.com/clock:1"}}}
    here.apply(agent(tools=[sidecar, {"name": "local", "code": code}]))

    eventually(lambda: here.list("pods"), "the namespace, which enforces it, admits a pod")


def test_tools_can_be_added_and_removed(here: Namespace) -> None:
    here.apply(agent(tools=[{"name": "clock", "mcp": {"url": "http://clock.tools:8080/mcp"}}]))
    assert address(here) == "http://clock.tools:8080/mcp"

    here.apply(agent())
    eventually(lambda: here.find("configmap", "hello-tools") is None, "the file is deleted")
    eventually(
        lambda: [each["name"] for each in here.get("deployment")["spec"]["template"]["spec"]["volumes"]] == ["tmp"],
        "the pods mount nothing of the tools",
    )


def test_a_server_of_toolhive_is_found_followed_and_reached(here: Namespace) -> None:
    here.apply(referring(TOOLHIVE, "MCPServer"))
    problem = here.await_condition("Degraded", "True", "ToolServerUnresolved")
    assert f"tools[clock].mcp.serverRef: MCPServer {here.name}/clock ({TOOLHIVE}) does not exist" in problem["message"]
    assert address(here) == UNRESOLVED

    toolhive(here)
    publish(here)
    here.await_condition("Degraded", "False", "AsExpected")
    assert address(here) == f"http://mcp-clock-proxy.{here.name}.svc.cluster.local:8080/mcp"

    toolhive(here, proxyPort=9000)
    expected = f"http://mcp-clock-proxy.{here.name}.svc.cluster.local:9000/mcp"
    eventually(lambda: address(here) == expected, "the changed port is followed", FOLLOWED_SECONDS)
    _, rule = here.get("networkpolicy")["spec"]["egress"]
    assert rule["ports"] == [{"port": 9000, "protocol": "TCP"}]
    assert rule["to"] == [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": here.name}}}]


def test_a_server_that_is_deleted_keeps_its_last_address(here: Namespace) -> None:
    toolhive(here)
    publish(here)
    here.apply(referring(TOOLHIVE, "MCPServer"))
    known = f"http://mcp-clock-proxy.{here.name}.svc.cluster.local:8080/mcp"
    here.await_condition("Degraded", "False", "AsExpected")
    assert address(here) == known
    generation = here.get("deployment")["metadata"]["generation"]

    here.kubectl("delete", f"mcpservers.{TOOLHIVE}", "clock")
    here.apply(agent(replicas=2, tools=referring(TOOLHIVE, "MCPServer")["spec"]["tools"]))
    problem = here.await_condition("Degraded", "True", "ToolServerUnresolved")
    assert "does not exist" in problem["message"]
    assert f"its last address stays in use ({known})" in problem["message"]
    assert address(here) == known
    assert here.get("deployment")["metadata"]["generation"] == generation + 1, "only the replicas changed"


def test_a_server_of_kmcp_is_found(here: Namespace) -> None:
    here.apply(server("kagent.dev/v1alpha1", "MCPServer", {"transportType": "stdio", "deployment": {"cmd": "clock"}}))
    here.apply(referring("kagent.dev", "MCPServer"))

    assert address(here) == f"http://clock.{here.name}.svc:3000/mcp"


@pytest.mark.parametrize("version", ["v1alpha2", "v1alpha3"])
def test_a_remote_server_of_kagent_is_found(here: Namespace, version: str) -> None:
    url = "https://mcp.example.com/mcp"
    here.apply(server(f"kagent.dev/{version}", "RemoteMCPServer", {"description": "a clock", "url": url}))
    here.apply(referring("kagent.dev", "RemoteMCPServer"))

    assert address(here) == url


def test_a_server_with_another_transport_is_named_and_the_agent_serves_without_it(here: Namespace) -> None:
    toolhive(here, transport="sse")
    publish(here)
    here.apply(referring(TOOLHIVE, "MCPServer"))

    problem = here.await_condition("Degraded", "True", "ToolServerUnresolved")
    assert "uses the transport sse, which Portside does not speak" in problem["message"]
    assert address(here) == UNRESOLVED
    here.await_rollout()
    here.serve()
    here.await_condition("Ready", "True", "Serving")


def test_an_agent_that_cannot_do_without_a_server_is_not_ready(here: Namespace) -> None:
    here.apply(referring(TOOLHIVE, "MCPServer", onUnavailable="fail"))

    here.await_condition("Ready", "False", "ToolServerUnresolved")
