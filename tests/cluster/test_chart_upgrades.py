"""Upgrades from every release of the charts to the present one, and back; and what an upgrade refuses."""

import json
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import pytest

from agent_operator.api.crd import crd
from support.eventually import eventually
from testbed import paths
from testbed.cluster import Cluster
from testbed.errors import TestbedError

pytestmark = pytest.mark.timing

HELM = paths.REPOSITORY / "helm"
RELEASES = sorted(path.name for path in (paths.REPOSITORY / "releases").iterdir() if path.is_dir())
DEFINITION = "crd/agentdeployments.portside.dev"
DEFINITIONS = (DEFINITION, "crd/agentclasses.portside.dev")
OF_HELM = ("meta.helm.sh/release-name", "meta.helm.sh/release-namespace", "helm.sh/resource-policy")

# Many of the values of that time, so that an upgrade has something to lose.
VALUES: dict[str, Any] = {
    "agent": {"systemPrompt": "Be brief.", "maxTokens": 1000},
    "apiKey": {"value": "key-of-the-tests"},
    "auth": {"enabled": True},
    "redis": {"url": "redis://state:6379"},
    "worker": {"enabled": True},
    "autoscaling": {"enabled": True, "minReplicas": 2},
    "ingress": {"enabled": True, "hosts": ["agent.example.com"]},
    "podLabels": {"team": "docks"},
}


@pytest.fixture
def own_definition(control_plane: Cluster) -> Iterator[None]:
    """Start without the definition, so that the test's release installs its own."""
    if "meta.helm.sh/release-name" in control_plane.kubectl("get", DEFINITION, "-ojson", "--ignore-not-found"):
        pytest.skip("this cluster's definition belongs to a Helm release")
    control_plane.kubectl("delete", *DEFINITIONS, "--ignore-not-found", "--timeout=60s")
    yield
    control_plane.kubectl("annotate", *DEFINITIONS, *(f"{each}-" for each in OF_HELM))
    control_plane.kubectl("label", *DEFINITIONS, "app.kubernetes.io/managed-by-")


def test_there_is_a_release_to_upgrade_from() -> None:
    assert RELEASES
    assert version("portside") not in RELEASES


@pytest.mark.parametrize("values_kept_by", ["--reuse-values", "--reset-then-reuse-values"])
@pytest.mark.parametrize("release", RELEASES)
def test_an_agent_of_any_release_can_be_upgraded_to_the_present_chart_and_back(
    control_plane: Cluster, namespace: str, release: str, values_kept_by: str
) -> None:
    in_place = ["-n", namespace]
    control_plane.helm("install", "my-agent", _package("agent", release), *in_place, "-f-", stdin=json.dumps(VALUES))
    _await_autoscaler(control_plane, namespace)
    before = _state(control_plane, namespace)

    control_plane.helm("upgrade", "my-agent", str(HELM / "agent"), values_kept_by, *in_place)
    after = _state(control_plane, namespace)
    assert _version(after) == version("portside")
    assert set(before) <= set(after)
    assert after["Secret my-agent-client-keys"]["data"] == before["Secret my-agent-client-keys"]["data"]
    assert after["Deployment my-agent"]["spec"]["selector"] == before["Deployment my-agent"]["spec"]["selector"]
    assert after["ConfigMap my-agent"]["data"]["SYSTEM_PROMPT"] == "Be brief."

    control_plane.helm("rollback", "my-agent", "1", *in_place)
    _await_autoscaler(control_plane, namespace)
    assert _specs(_state(control_plane, namespace)) == _specs(before)


@pytest.mark.parametrize("release", RELEASES)
def test_a_runtime_and_tools_come_with_an_upgrade_and_leave_with_a_rollback(
    control_plane: Cluster, namespace: str, release: str
) -> None:
    in_place = ["-n", namespace]
    values = {**VALUES, "autoscaling": {"enabled": False}}
    control_plane.helm("install", "my-agent", _package("agent", release), *in_place, "-f-", stdin=json.dumps(values))
    before = _state(control_plane, namespace)

    runtime = ["--set", "runtime.image=registry.example.com/agent:1"]
    runtime += ["--set", "tools[0].name=clock,tools[0].mcp.sidecar.image=registry.example.com/clock:1"]
    control_plane.helm("upgrade", "my-agent", str(HELM / "agent"), "--reset-then-reuse-values", *runtime, *in_place)
    after = _state(control_plane, namespace)
    for name in ("my-agent", "my-agent-worker"):
        pod = after[f"Deployment {name}"]["spec"]["template"]["spec"]
        assert [each["name"] for each in pod["initContainers"]] == ["tool-clock", "runtime"]
    assert "clock" in after["ConfigMap my-agent-tools"]["data"]["tools.json"]
    assert after["ConfigMap my-agent"]["data"]["RUNTIME_URL"] == "http://127.0.0.1:8080"

    control_plane.helm("rollback", "my-agent", "1", *in_place)
    assert _specs(_state(control_plane, namespace)) == _specs(before)


@pytest.mark.parametrize(
    ("values_kept_by", "new_default"), [("--reuse-values", 0), ("--reset-then-reuse-values", 1)], ids=str
)
@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.usefixtures("own_definition")
def test_the_operator_of_any_release_can_be_upgraded_to_the_present_chart_and_back(
    control_plane: Cluster, namespace: str, release: str, values_kept_by: str, new_default: int
) -> None:
    """`new_default` is the number of NetworkPolicies after the upgrade, which are on by default since 0.2.0."""
    values = ["--set", f"watchNamespaces={{{namespace}}},logging.level=DEBUG"]
    in_place = ["-n", namespace]
    control_plane.helm("install", "agent-operator", _package("agent-operator", release), *in_place, *values)
    _apply_sample(control_plane, namespace)
    agent = control_plane.get("agentdeployment", "hello-agent", *in_place)

    control_plane.helm("upgrade", "agent-operator", str(HELM / "agent-operator"), values_kept_by, *in_place)
    assert len(control_plane.get("networkpolicies", *in_place)["items"]) == new_default
    deployment = control_plane.get("deployment", "agent-operator", *in_place)
    assert deployment["metadata"]["labels"]["app.kubernetes.io/version"] == version("portside")
    assert "--log-level=DEBUG" in deployment["spec"]["template"]["spec"]["containers"][0]["args"]
    definition = control_plane.get(DEFINITION)
    assert definition["metadata"]["labels"]["app.kubernetes.io/version"] == version("portside")
    assert definition["spec"]["versions"] == crd()["spec"]["versions"]

    control_plane.helm("rollback", "agent-operator", "1", *in_place)
    deployment = control_plane.get("deployment", "agent-operator", *in_place)
    assert deployment["metadata"]["labels"]["app.kubernetes.io/version"] == release
    assert control_plane.get("agentdeployment", "hello-agent", *in_place)["spec"] == agent["spec"]
    control_plane.helm("uninstall", "agent-operator", *in_place)


@pytest.mark.usefixtures("own_definition")
def test_a_release_that_no_longer_installs_the_definition_keeps_it_and_the_agents(
    control_plane: Cluster, namespace: str
) -> None:
    chart = str(HELM / "agent-operator")
    values = ["-n", namespace, "--set", f"watchNamespaces={{{namespace}}}"]
    control_plane.helm("install", "agent-operator", chart, *values)
    _apply_sample(control_plane, namespace)

    control_plane.helm("upgrade", "agent-operator", chart, *values, "--set", "crds.install=false")
    control_plane.helm("uninstall", "agent-operator", "-n", namespace)

    assert "hello-agent" in control_plane.kubectl("get", "agentdeployments", "-n", namespace, "-oname")


@pytest.mark.parametrize(
    ("chart", "values"), [("agent", {"agent": {"provider": "echo"}}), ("agent-operator", {"crds": {"install": False}})]
)
def test_a_changed_name_in_the_selector_is_refused_before_anything_changes(
    control_plane: Cluster, namespace: str, chart: str, values: dict[str, Any]
) -> None:
    path = str(HELM / chart)
    place = ["-n", namespace, "-f-"]
    values = values if chart == "agent" else {**values, "watchNamespaces": [namespace]}
    control_plane.helm("install", "mine", path, *place, stdin=json.dumps(values))

    with pytest.raises(TestbedError, match="nameOverride cannot change while the Deployment mine is there"):
        control_plane.helm("upgrade", "mine", path, *place, stdin=json.dumps(values | {"nameOverride": "other"}))

    control_plane.helm("upgrade", "mine", path, *place, stdin=json.dumps(values))
    assert "other" not in control_plane.kubectl("get", "all", "-n", namespace, "-oyaml")


def _package(chart: str, release: str) -> str:
    return str(paths.REPOSITORY / "releases" / release / f"{chart}-{release}.tgz")


def _apply_sample(cluster: Cluster, namespace: str) -> None:
    """Apply an agent once the API server serves the definition, a moment after Helm applied it."""
    sample = (paths.REPOSITORY / "manifests" / "samples" / "echo-agent.yaml").read_text()
    eventually(
        lambda: "hello-agent" in cluster.kubectl("apply", "-n", namespace, "-f-", stdin=sample, check=False),
        "the definition is served",
    )


def _await_autoscaler(cluster: Cluster, namespace: str) -> None:
    """Wait until the autoscaler, which syncs every few seconds, has set its minimum number of pods."""
    least = VALUES["autoscaling"]["minReplicas"]
    eventually(
        lambda: cluster.get("deployment", "my-agent", "-n", namespace)["spec"]["replicas"] == least,
        f"the autoscaler has set {least} replicas",
    )


def _state(cluster: Cluster, namespace: str) -> dict[str, dict[str, Any]]:
    """Return the objects of a release of the agent's chart, by kind and name."""
    kinds = "deployments,services,hpa,secrets,configmaps,ingresses,networkpolicies,pdb,serviceaccounts"
    found = cluster.get(kinds, "-n", namespace, "-l", "app.kubernetes.io/instance=my-agent")["items"]
    return {f"{each['kind']} {each['metadata']['name']}": each for each in found}


def _specs(state: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the desired fields: all but the bookkeeping of the API server and Helm."""
    ours = ("spec", "data")
    return {name: [*(each.get(part) for part in ours), each["metadata"]["labels"]] for name, each in state.items()}


def _version(state: dict[str, dict[str, Any]]) -> str:
    return str(state["Deployment my-agent"]["metadata"]["labels"]["app.kubernetes.io/version"])
