"""`agent-operator diff` against a real API server: it shows what the operator would do, and changes nothing."""

import json
import re
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.tools_bed import tool
from support.eventually import eventually
from support.operator import Namespace, OperatorProcess, agent, install_definition, operator, service_account
from testbed.cluster import Cluster

KEY = "sk-very-secret"
KEYED: dict[str, Any] = {
    "agent": {"provider": "anthropic"},
    "apiKey": {"value": KEY},
    "networkPolicy": {"enabled": False},
}


@pytest.fixture
def here(control_plane: Cluster, namespace: str) -> Namespace:
    """A fresh namespace of a cluster that serves AgentDeployments."""
    install_definition(control_plane)
    return Namespace(control_plane, namespace)


def test_a_new_agent_is_shown_with_all_objects_that_would_be_created(here: Namespace) -> None:
    before = everything(here)

    done = tool(here, "diff", "-f", "-", stdin=json.dumps(agent(**KEYED)))

    assert done.returncode == 1, done.stderr
    assert {"ConfigMap", "Secret", "Service", "Deployment"} <= set(kinds(done.stdout))
    assert f"+++ wanted/apps.v1.Deployment.{here.name}.hello" in done.stdout
    assert "+  replicas: 1" in done.stdout
    assert "-" not in {line[0] for line in done.stdout.splitlines() if not line.startswith("--- /dev/null")}
    assert everything(here) == before


def test_what_the_operator_has_applied_is_no_longer_shown(here: Namespace) -> None:
    document = agent(**KEYED)
    made(here, document)

    by_file = tool(here, "diff", "-f", "-", stdin=json.dumps(document))
    by_name = tool(here, "diff", "hello")

    assert (by_file.returncode, by_file.stdout, by_file.stderr) == (0, "", "")
    assert (by_name.returncode, by_name.stdout, by_name.stderr) == (0, "", "")


def test_a_changed_spec_is_shown_as_the_operator_then_applies_it(here: Namespace) -> None:
    made(here, agent(service={"port": 80}))
    changed = agent(service={"port": 8080})
    port = here.get("service")["spec"]["ports"][0]["port"]

    done = tool(here, "diff", "-f", "-", stdin=json.dumps(changed))

    assert done.returncode == 1, done.stderr
    assert kinds(done.stdout) == ["Service"]
    assert {"-  - name: http", "-    port: 80", "+    port: 8080"} & set(done.stdout.splitlines()) == {
        "-    port: 80",
        "+    port: 8080",
    }
    assert here.get("service")["spec"]["ports"][0]["port"] == port == 80
    made(here, changed)
    assert here.get("service")["spec"]["ports"][0]["port"] == 8080
    assert tool(here, "diff", "hello").returncode == 0


def test_what_would_be_pruned_is_shown(here: Namespace) -> None:
    scaling = {"enabled": True, "minReplicas": 1, "maxReplicas": 3}
    made(here, agent(autoscaling=scaling, redis={"url": "redis://state"}))
    here.get("horizontalpodautoscaler")

    done = tool(here, "diff", "-f", "-", stdin=json.dumps(agent(replicas=1, redis={"url": "redis://state"})))

    assert done.returncode == 1, done.stderr
    assert f"--- live/autoscaling.v2.HorizontalPodAutoscaler.{here.name}.hello\n+++ /dev/null" in done.stdout
    assert here.find("horizontalpodautoscaler") is not None


def test_replicas_are_not_shown_as_reset_when_an_autoscaler_is_added(here: Namespace) -> None:
    made(here, agent(replicas=3, redis={"url": "redis://state"}))

    scaled = agent(autoscaling={"enabled": True, "minReplicas": 2}, redis={"url": "redis://state"})
    done = tool(here, "diff", "-f", "-", stdin=json.dumps(scaled))

    assert done.returncode == 1, done.stderr
    assert "HorizontalPodAutoscaler" in kinds(done.stdout)
    assert "-  replicas: 3" not in done.stdout


def test_drift_is_shown_but_not_the_fields_of_other_owners(here: Namespace) -> None:
    made(here, agent())
    here.kubectl("annotate", "deployment/hello", "example.com/note=mine")
    assert tool(here, "diff", "hello").returncode == 0

    here.kubectl("delete", "service", "hello")
    here.kubectl("set", "image", "deployment/hello", "agent=example.com/other:1")

    done = tool(here, "diff", "hello")
    assert done.returncode == 1, done.stderr
    assert sorted(kinds(done.stdout)) == ["Deployment", "Service"]
    assert any(line.startswith("-") and "example.com/other:1" in line for line in done.stdout.splitlines())
    assert "example.com/note: mine" not in [line[1:].strip() for line in done.stdout.splitlines() if line[0] in "+-"]


def test_foreign_additions_are_shown_as_removed(here: Namespace) -> None:
    made(here, agent())
    here.kubectl("set", "env", "deployment/hello", "SYSTEM_PROMPT=Be rude.")
    container = {"name": "intruder", "image": "intruder:1"}
    template = {"spec": {"hostNetwork": True, "containers": [container]}}
    here.kubectl("patch", "deployment", "hello", "-p", json.dumps({"spec": {"template": template}}))

    done = tool(here, "diff", "hello")

    assert done.returncode == 1, done.stderr
    removed = {line[1:].strip() for line in done.stdout.splitlines() if line.startswith("-")}
    assert {"- name: SYSTEM_PROMPT", "hostNetwork: true", "name: intruder"} <= removed, done.stdout


def test_no_value_of_a_secret_is_shown(here: Namespace) -> None:
    made(here, agent(**KEYED))

    rotated = tool(here, "diff", "-f", "-", stdin=json.dumps(agent(**KEYED | {"apiKey": {"value": "sk-another-one"}})))
    removed = tool(here, "diff", "-f", "-", stdin=json.dumps(agent()))

    assert "-  ANTHROPIC_API_KEY: '*** (before)'" in rotated.stdout
    assert "+  ANTHROPIC_API_KEY: '*** (after)'" in rotated.stdout
    assert f"--- live/v1.Secret.{here.name}.hello\n+++ /dev/null" in removed.stdout
    assert "-  ANTHROPIC_API_KEY: '***'" in removed.stdout
    for text in (rotated.stdout, rotated.stderr, removed.stdout, removed.stderr):
        assert KEY not in text
        assert "sk-another-one" not in text
        assert "c2stdmVyeS1zZWNyZXQ" not in text  # the key in base64


def test_a_name_conflict_and_a_refused_object_are_reported(here: Namespace) -> None:
    here.kubectl("create", "configmap", "hello")
    asking = {"requests": {"memory": "2Gi"}, "limits": {"memory": "1Gi"}}

    taken = tool(here, "diff", "-f", "-", stdin=json.dumps(agent()))
    refused = tool(here, "diff", "-f", "-", stdin=json.dumps(agent("other", resources=asking)))

    assert taken.returncode == 2
    assert (
        f"Error: {here.name}/hello: ConfigMap hello exists and is not managed by this AgentDeployment" in taken.stderr
    )
    assert refused.returncode == 2
    assert "Deployment other would be refused" in refused.stderr
    assert "must be less than or equal to memory limit" in refused.stderr


def test_a_missing_agent_is_reported(here: Namespace) -> None:
    done = tool(here, "diff", "absent")

    assert (done.returncode, done.stdout) == (2, "")
    assert f"Error: AgentDeployment absent not found in namespace {here.name}" in done.stderr


def test_a_user_without_the_right_to_patch_gets_an_error(here: Namespace) -> None:
    rules = [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["get", "list"]}]
    with reader(here, rules) as kubeconfig:
        done = tool(here, "diff", "-f", "-", stdin=json.dumps(agent()), kubeconfig=kubeconfig)

    assert done.returncode == 2
    assert "Dry runs require the verb patch" in done.stderr
    assert "cannot patch resource" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_operators_own_rights_are_enough(here: Namespace) -> None:
    with service_account(here.cluster, here.name, cluster_wide=False) as kubeconfig:
        done = tool(here, "diff", "-f", "-", stdin=json.dumps(agent(**KEYED)), kubeconfig=kubeconfig)

    assert done.returncode == 1, done.stderr


def test_an_error_of_the_connection_to_the_cluster_is_one_line(here: Namespace, tmp_path: Path) -> None:
    config = yaml.safe_load(here.cluster.kubeconfig.read_text())
    config["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1"
    (tmp_path / "dead").write_text(yaml.safe_dump(config))
    stranger = {**config, "users": [{"name": each["name"], "user": {"token": "no"}} for each in config["users"]]}
    stranger["clusters"] = yaml.safe_load(here.cluster.kubeconfig.read_text())["clusters"]
    (tmp_path / "stranger").write_text(yaml.safe_dump(stranger))
    (tmp_path / "odd").write_text("- 1\n")

    for name, arguments, words in (
        ("none", (), "No kubeconfig found"),
        ("dead", (), "did not answer"),
        ("stranger", (), "refused your credentials"),
        ("odd", (), "does not specify a usable cluster"),
        ("dead", ("--context", "elsewhere"), "has no context elsewhere"),
    ):
        done = tool(here, "diff", "hello", *arguments, kubeconfig=tmp_path / name)
        assert done.returncode == 2
        assert words in done.stderr
        assert len(done.stderr.splitlines()) == 1, done.stderr


def kinds(text: str) -> list[str]:
    """Return the kinds of the objects in a diff."""
    return list(dict.fromkeys(re.findall(r"^(?:--- live|\+\+\+ wanted)/[^A-Z]*([A-Za-z]+)", text, re.MULTILINE)))


def made(here: Namespace, document: dict[str, Any]) -> None:
    """Apply an agent, run an operator until it has created the agent's objects, and stop it."""
    here.apply(document)
    with running(here):

        def seen() -> bool:
            found = here.get("agentdeployment")
            return bool(found.get("status", {}).get("observedGeneration") == found["metadata"]["generation"])

        eventually(seen, "the operator has made the agent's objects")


def running(here: Namespace) -> AbstractContextManager[OperatorProcess]:
    return operator(here.cluster.kubeconfig, here.name)


def everything(here: Namespace) -> list[str]:
    """Return kind and name of all objects of agents."""
    kinds = "configmaps,secrets,services,deployments,horizontalpodautoscalers,networkpolicies"
    return here.kubectl("get", kinds, "-oname").split()


def reader(here: Namespace, rules: list[dict[str, Any]]) -> AbstractContextManager[Path]:
    """Return a kubeconfig of a user with these rules in the namespace, and no others."""
    return service_account(here.cluster, here.name, cluster_wide=False, rules=rules)
