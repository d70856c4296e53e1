"""Objects of the operator's chart by its values, at a real API server with prometheus-operator's definitions."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from support.eventually import eventually
from support.manifests import documents
from testbed import definitions, paths
from testbed.cluster import Cluster

CHART = paths.REPOSITORY / "helm" / "agent-operator"
NAME = "agent-operator"
AGENTS = "agentdeployments.portside.dev"
WITHOUT_DEFINITION: dict[str, Any] = {"crds": {"install": False}}
ALL_ON: dict[str, Any] = {each: {"enabled": True} for each in ("serviceMonitor", "prometheusRule", "dashboards")}


@pytest.fixture(scope="module")
def monitored(control_plane: Cluster) -> Cluster:
    """The control plane with prometheus-operator's definitions."""
    definitions.install(control_plane, "ServiceMonitor", "PrometheusRule")
    return control_plane


@pytest.fixture
def no_rights_left(control_plane: Cluster, namespace: str) -> Iterator[None]:
    """Delete what the test's release has outside its namespace."""
    yield
    control_plane.helm("uninstall", NAME, "-n", namespace, "--ignore-not-found")


@pytest.mark.usefixtures("no_rights_left")
def test_monitoring_objects_match_the_definitions_of_prometheus_operator(monitored: Cluster, namespace: str) -> None:
    values = WITHOUT_DEFINITION | {"monitoring": ALL_ON, "watchNamespaces": [namespace]}
    _install(monitored, namespace, values)

    service = monitored.get("service", NAME, "-n", namespace)
    monitor = monitored.get("servicemonitor", NAME, "-n", namespace)["spec"]
    template = monitored.get("deployment", NAME, "-n", namespace)["spec"]["template"]
    assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert service["spec"]["selector"].items() <= template["metadata"]["labels"].items()
    [port] = service["spec"]["ports"]
    assert port["name"] == monitor["endpoints"][0]["port"]
    assert port["targetPort"] in [each["name"] for each in template["spec"]["containers"][0]["ports"]]

    rules = monitored.get("prometheusrule", NAME, "-n", namespace)["spec"]["groups"]
    links = [rule["annotations"]["runbook_url"] for group in rules for rule in group["rules"] if "alert" in rule]
    assert links
    assert all(link.startswith("https://portside.dev/docs/how-to/alerts.html#") for link in links)

    dashboards = monitored.get("configmaps", "-n", namespace, "-l", "grafana_dashboard=1")["items"]
    files = {path.name: path.read_text() for path in (CHART / "files" / "dashboards").iterdir()}
    assert {name: text for each in dashboards for name, text in each["data"].items()} == files


@pytest.mark.parametrize("by_monitor", [True, False], ids=["ServiceMonitor", "annotations"])
def test_the_alert_on_an_absent_operator_names_the_release(
    control_plane: Cluster, namespace: str, *, by_monitor: bool
) -> None:
    values = {"monitoring": ALL_ON | {"serviceMonitor": {"enabled": by_monitor}}, "fullnameOverride": "blue"}
    made = _rendered(control_plane, namespace, values)
    rules = [rule for group in made["PrometheusRule"][0]["spec"]["groups"] for rule in group["rules"]]
    [down] = [rule for rule in rules if rule.get("alert") == "AgentOperatorDown"]
    # Prometheus identifies the operator's pods by this name: their Service's, or a label of theirs (scrape.yaml).
    pods = made["Deployment"][0]["spec"]["template"]["metadata"]["labels"]
    name = made["Service"][0]["metadata"]["name"] if by_monitor else pods["app.kubernetes.io/instance"]
    assert f'agent_operator_is_leader{{namespace="{namespace}", service="{name}"}}' in down["expr"]
    assert f"{namespace}/{name}" in down["annotations"]["summary"]
    assert (down["labels"]["namespace"], down["labels"]["service"]) == (namespace, name)
    assert not [word for word in ("OPERATOR_NAME", "RUNBOOKS") if word in json.dumps(made["PrometheusRule"])]


def test_pods_scraped_by_a_service_monitor_have_no_scrape_annotations(control_plane: Cluster, namespace: str) -> None:
    def annotations(values: dict[str, Any]) -> dict[str, str]:
        [deployment] = _rendered(control_plane, namespace, values)["Deployment"]
        found: dict[str, str] = deployment["spec"]["template"]["metadata"].get("annotations", {})
        return found

    assert annotations({})["prometheus.io/scrape"] == "true"
    monitored = {"monitoring": {"serviceMonitor": {"enabled": True}}}
    assert annotations(monitored) == {}
    assert annotations(monitored | {"podAnnotations": {"team": "docks"}}) == {"team": "docks"}


def test_labels_runbooks_and_namespaces_are_the_configured_ones(monitored: Cluster, namespace: str) -> None:
    chosen = {"release": "prometheus"}
    monitoring = {
        "serviceMonitor": {"enabled": True, "labels": chosen, "interval": "5s"},
        "prometheusRule": {"enabled": True, "labels": chosen, "runbooks": "https://wiki.example.com/agents"},
        "dashboards": {
            "enabled": True,
            "labels": {"grafana_dashboard": "yes"},
            "annotations": {"folder": "Agents"},
            "namespace": "grafana",
        },
    }
    made = _rendered(monitored, namespace, {"monitoring": monitoring})
    for kind in ("ServiceMonitor", "PrometheusRule"):
        [one] = made[kind]
        assert one["metadata"]["labels"]["release"] == "prometheus"
    assert made["ServiceMonitor"][0]["spec"]["endpoints"][0]["interval"] == "5s"
    assert "https://wiki.example.com/agents#agentoperatordown" in json.dumps(made["PrometheusRule"])
    for dashboard in made["ConfigMap"]:
        metadata = dashboard["metadata"]
        assert metadata["labels"]["grafana_dashboard"] == "yes"
        assert (metadata["namespace"], metadata["annotations"]) == ("grafana", {"folder": "Agents"})


def test_no_prometheus_objects_are_created_by_default(monitored: Cluster, namespace: str) -> None:
    made = _rendered(monitored, namespace, {})
    assert not {"ServiceMonitor", "PrometheusRule", "ConfigMap", "Service"} & made.keys()


@pytest.mark.usefixtures("no_rights_left")
def test_editors_and_viewers_of_a_namespace_have_the_same_rights_on_its_agents(
    control_plane: Cluster, namespace: str
) -> None:
    control_plane.kubectl("apply", "--server-side", "-f", str(CHART / "files" / "agentdeployments.yaml"))
    control_plane.await_definition(AGENTS)
    _install(control_plane, namespace, WITHOUT_DEFINITION)
    for role in ("view", "edit"):
        binding = ["create", "rolebinding", role, "-n", namespace, f"--clusterrole={role}", f"--user={role}er"]
        control_plane.kubectl(*binding)

    # The controller that aggregates roles takes a moment, and works role by role.
    eventually(lambda: _may(control_plane, namespace, "viewer", "list", AGENTS), "rights to read")
    eventually(lambda: _may(control_plane, namespace, "editer", "list", AGENTS), "rights to read")
    eventually(lambda: _may(control_plane, namespace, "editer", "patch", AGENTS), "rights to write")
    may = {
        user: {
            verb
            for verb in ("get", "list", "create", "patch", "delete")
            if _may(control_plane, namespace, user, verb, AGENTS)
        }
        for user in ("viewer", "editer")
    }
    assert may == {"viewer": {"get", "list"}, "editer": {"get", "list", "create", "patch", "delete"}}
    assert _may(control_plane, namespace, "editer", "patch", AGENTS, "--subresource=scale")
    assert not _may(control_plane, namespace, "editer", "patch", AGENTS, "--subresource=status")


@pytest.mark.parametrize("values", [{"rbac": {"aggregate": False}}, {"watchNamespaces": ["one"]}])
def test_user_facing_roles_are_left_alone_on_request_or_with_namespaced_rights(
    control_plane: Cluster, namespace: str, values: dict[str, Any]
) -> None:
    assert "aggregate-to" not in json.dumps(_rendered(control_plane, namespace, values))


def test_an_existing_service_account_gets_the_rights(control_plane: Cluster, namespace: str) -> None:
    values = {"serviceAccount": {"create": False, "name": "robot"}, "watchNamespaces": ["one"]}
    made = _rendered(control_plane, namespace, values)
    assert "ServiceAccount" not in made
    assert made["Deployment"][0]["spec"]["template"]["spec"]["serviceAccountName"] == "robot"
    subjects = [subject["name"] for binding in made["RoleBinding"] for subject in binding["subjects"]]
    assert set(subjects) == {"robot"}
    cluster_wide = _rendered(control_plane, namespace, {"serviceAccount": {"name": "robot"}})
    assert cluster_wide["ServiceAccount"][0]["metadata"]["name"] == "robot"
    assert cluster_wide["ClusterRoleBinding"][0]["subjects"][0]["name"] == "robot"


def test_a_policy_allows_scrapes_in_and_dns_and_the_api_server_out(control_plane: Cluster, namespace: str) -> None:
    [policy] = _rendered(control_plane, namespace, {})["NetworkPolicy"]
    prometheus = {"matchLabels": {"app.kubernetes.io/name": "prometheus"}}
    assert policy["spec"]["ingress"][0]["from"] == [{"namespaceSelector": {}, "podSelector": prometheus}]
    proxy = {"ports": [{"port": 3128, "protocol": "TCP"}]}
    scraper = {"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}
    values = {"networkPolicy": {"scrapeFrom": [scraper], "extraEgress": [proxy], "apiServerPorts": [6443]}}
    [policy] = _rendered(control_plane, namespace, values)["NetworkPolicy"]
    spec = policy["spec"]
    assert spec["ingress"] == [{"ports": [{"port": "health", "protocol": "TCP"}], "from": [scraper]}]
    ours, agents, extra = spec["egress"]
    # The usage of agents with a budget is read from their metrics port, and from no other agents'.
    assert agents["ports"] == [{"port": 9090, "protocol": "TCP"}]
    assert agents["to"][0]["podSelector"] == {"matchLabels": {"app.kubernetes.io/name": "portside-agent"}}
    dns = [(port, protocol) for port in (53, 5353) for protocol in ("UDP", "TCP")]
    assert [(each["port"], each["protocol"]) for each in ours["ports"]] == [*dns, (6443, "TCP")]
    assert extra == proxy
    assert "NetworkPolicy" not in _rendered(control_plane, namespace, {"networkPolicy": {"enabled": False}})


def test_without_a_policy_no_part_of_one_is_created(control_plane: Cluster, namespace: str) -> None:
    # As with `--reuse-values` on a release that had no policy.
    for values in ({}, {"policies": {"enabled": False}}, {"policies": None}):
        made = _rendered(control_plane, namespace, values)
        assert not {"ConfigMap", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"} & made.keys()
        assert "policy" not in json.dumps(made["Deployment"])


def test_a_policy_reaches_the_operator_and_the_api_server_with_the_same_settings(
    control_plane: Cluster, namespace: str
) -> None:
    allow = {"ingresses": True, "podLabels": ["team", "example.com/*"], "egressPorts": [443]}
    made = _rendered(control_plane, namespace, {"policies": {"enabled": True, "allow": allow}})

    [config] = made["ConfigMap"]
    assert {key: config["data"][key] for key in allow} == {
        "ingresses": "true",
        "podLabels": "team,example.com/*",
        "egressPorts": "443",
    }
    [policy] = made["ValidatingAdmissionPolicy"]
    literal = policy["spec"]["variables"][0]["expression"].replace("'", '"')
    assert json.loads(literal) == config["data"]
    pod = made["Deployment"][0]["spec"]["template"]
    assert "--policy=/etc/portside/policy" in pod["spec"]["containers"][0]["args"]
    assert {"name": "policy", "configMap": {"name": config["metadata"]["name"]}} in pod["spec"]["volumes"]
    other = _rendered(control_plane, namespace, {"policies": {"enabled": True}})["Deployment"][0]["spec"]["template"]
    assert other["metadata"]["annotations"] != pod["metadata"]["annotations"], "a changed policy replaces the pods"
    alone = _rendered(control_plane, namespace, {"policies": {"enabled": True, "admission": False}})
    assert "ConfigMap" in alone
    assert "ValidatingAdmissionPolicy" not in alone


@pytest.mark.parametrize(
    ("selector", "expressions"),
    [
        ("a=b", [("a", "In", ["b"])]),
        ("example.com/a==b, c != d", [("example.com/a", "In", ["b"]), ("c", "NotIn", ["d"])]),
        ("a in (b, c),d notin (e)", [("a", "In", ["b", "c"]), ("d", "NotIn", ["e"])]),
        ("a,!b", [("a", "Exists", []), ("b", "DoesNotExist", [])]),
        ("a=", [("a", "In", [""])]),
    ],
)
def test_a_policy_covers_the_agents_that_the_operator_serves(
    control_plane: Cluster, namespace: str, selector: str, expressions: list[tuple[str, str, list[str]]]
) -> None:
    values = {"policies": {"enabled": True}, "selector": selector, "watchNamespaces": ["one", "two"]}
    [binding] = _rendered(control_plane, namespace, values)["ValidatingAdmissionPolicyBinding"]

    matched = binding["spec"]["matchResources"]
    assert [
        (each["key"], each["operator"], each.get("values", []))
        for each in matched["objectSelector"]["matchExpressions"]
    ] == expressions
    assert matched["namespaceSelector"]["matchExpressions"] == [
        {"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["one", "two"]}
    ]
    everywhere = _rendered(control_plane, namespace, {"policies": {"enabled": True}})
    assert "matchResources" not in everywhere["ValidatingAdmissionPolicyBinding"][0]["spec"]


def test_several_operators_have_a_disruption_budget_unless_it_is_disabled(
    control_plane: Cluster, namespace: str
) -> None:
    assert _rendered(control_plane, namespace, {})["PodDisruptionBudget"][0]["spec"]["maxUnavailable"] == 1
    for values in ({"podDisruptionBudget": {"enabled": False}}, {"replicaCount": 1}):
        assert "PodDisruptionBudget" not in _rendered(control_plane, namespace, values)


def test_pods_get_the_configured_fields_and_keep_their_own_labels(control_plane: Cluster, namespace: str) -> None:
    affinity: dict[str, Any] = {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}}
    values = {
        "priorityClassName": "system-cluster-critical",
        "affinity": affinity,
        "podLabels": {"team": "docks", "app.kubernetes.io/name": "other"},
        "podAnnotations": {"prometheus.io/scrape": "false"},
        "extraEnv": [{"name": "HTTPS_PROXY", "value": "http://proxy.example.com:3128"}],
    }
    [deployment] = _rendered(control_plane, namespace, values)["Deployment"]
    template = deployment["spec"]["template"]
    assert template["spec"]["priorityClassName"] == "system-cluster-critical"
    assert template["spec"]["affinity"] == affinity
    names = [each["name"] for each in template["spec"]["containers"][0]["env"]]
    assert names == ["POD_NAME", "POD_NAMESPACE", "POD_UID", "HTTPS_PROXY"]
    assert template["spec"]["containers"][0]["env"][-1:] == values["extraEnv"]
    assert template["metadata"]["labels"]["team"] == "docks"
    assert deployment["spec"]["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
    assert template["metadata"]["annotations"]["prometheus.io/scrape"] == "false"


def _install(cluster: Cluster, namespace: str, values: dict[str, Any]) -> None:
    cluster.helm("install", NAME, str(CHART), "-n", namespace, "-f", "-", stdin=json.dumps(values))


def _rendered(cluster: Cluster, namespace: str, values: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    text = cluster.helm("template", NAME, str(CHART), "-n", namespace, "-f", "-", stdin=json.dumps(values))
    found: dict[str, list[dict[str, Any]]] = {}
    for document in documents(text):
        if document:
            found.setdefault(document["kind"], []).append(document)
    return found


def _may(cluster: Cluster, namespace: str, user: str, *asked: str) -> bool:
    answer = cluster.kubectl("auth", "can-i", *asked, "-n", namespace, f"--as={user}", check=False)
    return answer.strip() == "yes"
