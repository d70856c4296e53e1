"""Problems of an agent are in its status within seconds, with the messages of kubelet and scheduler."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from e2e.agents import (
    AGENT,
    READY_SECONDS,
    apply_spec,
    client,
    condition,
    is_ready,
    put_secret,
    secret_spec,
    wait_for_reason,
)
from support.eventually import eventually
from testbed.cluster import Cluster

pytestmark = [pytest.mark.usefixtures("operator"), pytest.mark.timing]
REPORT_SECONDS = 45


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        # A port of the node itself where no registry listens.
        (
            {"image": {"repository": "localhost:1/absent/agent", "tag": "1"}},
            ["ImagePullBackOff", "localhost:1/absent/agent:1"],
        ),
        (
            {"extraEnv": [{"name": "LOG_LEVEL", "value": "SHOUT"}]},
            ["CrashLoopBackOff", "exit code 2", "its settings are wrong", "kubectl logs my-agent-"],
        ),
        (
            {"resources": {"requests": {"memory": "24Mi"}, "limits": {"memory": "24Mi"}}},
            ["OOMKilled", "resources.limits.memory", "raise it"],
        ),
        (
            {"nodeSelector": {"example.com/deck": "upper"}},
            ["Unschedulable", "fits no node", "node affinity/selector"],
        ),
    ],
    ids=["image", "setting", "memory", "node"],
)
def test_what_keeps_a_pod_from_running_is_reported(
    change: dict[str, Any], expected: list[str], real_cluster: Cluster, namespace: str, model_api: str
) -> None:
    put_secret(real_cluster, namespace, "key-of-the-tests")
    apply_spec(real_cluster, namespace, secret_spec(model_api) | change)

    reason, *words = expected
    asked = time.monotonic()
    message = wait_for_reason(real_cluster, namespace, reason, REPORT_SECONDS)

    print(f"{reason} was reported {time.monotonic() - asked:.1f} s after the agent was applied")  # noqa: T201
    assert all(part in message for part in words), message
    ready = condition(real_cluster, namespace, "Ready")
    assert (ready["status"], ready["reason"]) == ("False", reason)
    _eventually_an_event_says(real_cluster, namespace, reason)


def test_a_quota_that_leaves_no_room_is_reported_until_it_is_raised(
    real_cluster: Cluster, namespace: str, model_api: str
) -> None:
    put_secret(real_cluster, namespace, "key-of-the-tests")
    real_cluster.kubectl("create", "quota", "tight", "-n", namespace, "--hard=pods=0")
    # Until the quota is computed for the first time, the API server refuses all pods for that reason.
    counted = ("quota", "tight", "-n", namespace)
    eventually(lambda: "used" in real_cluster.get(*counted)["status"], "the quota is counted", READY_SECONDS)
    apply_spec(real_cluster, namespace, secret_spec(model_api))

    message = wait_for_reason(real_cluster, namespace, "QuotaExceeded", REPORT_SECONDS)
    assert "exceeded quota: tight" in message

    room = json.dumps({"spec": {"hard": {"pods": "4"}}})
    real_cluster.kubectl("patch", "quota", "tight", "-n", namespace, "--type=merge", f"--patch={room}")
    eventually(lambda: is_ready(real_cluster, namespace), "the agent is Ready", READY_SECONDS)


def test_a_missing_secret_and_then_its_missing_key_are_named_until_both_are_there(
    real_cluster: Cluster, namespace: str, model_api: str
) -> None:
    apply_spec(real_cluster, namespace, secret_spec(model_api))
    message = wait_for_reason(real_cluster, namespace, "SecretMissing", REPORT_SECONDS)
    assert "Secret anthropic does not exist" in message

    put_secret(real_cluster, namespace, "key-of-the-tests", name="SOME_OTHER_KEY")
    message = wait_for_reason(real_cluster, namespace, "SecretKeyMissing", REPORT_SECONDS)
    assert "Secret anthropic has no key ANTHROPIC_API_KEY" in message
    assert not is_ready(real_cluster, namespace)

    put_secret(real_cluster, namespace, "key-of-the-tests")
    eventually(lambda: is_ready(real_cluster, namespace), "the agent is Ready", READY_SECONDS)
    assert condition(real_cluster, namespace, "Degraded")["status"] == "False"


def test_a_key_that_the_model_api_refuses_makes_the_agent_unready_until_it_is_corrected(
    real_cluster: Cluster, namespace: str, model_api: str
) -> None:
    put_secret(real_cluster, namespace, "bad-key")
    apply_spec(real_cluster, namespace, secret_spec(model_api))
    deployment = ("deployment", AGENT, "-n", namespace)

    def ready_replicas() -> int:
        return int(real_cluster.get(*deployment)["status"].get("readyReplicas", 0))

    eventually(lambda: "CredentialsRefused" in _doctor(real_cluster, namespace), "doctor reports why", REPORT_SECONDS)
    # doctor probes the pod itself; the kubelet does so again with the next readiness probe.
    eventually(lambda: ready_replicas() == 0, "no pod is ready", REPORT_SECONDS)
    eventually(lambda: not is_ready(real_cluster, namespace), "the agent is not Ready", REPORT_SECONDS)

    put_secret(real_cluster, namespace, "key-of-the-tests")
    eventually(lambda: is_ready(real_cluster, namespace), "the agent is Ready", READY_SECONDS)
    with client(real_cluster, namespace) as http:
        assert http.post("/chat", json={"message": "And now?"}).status_code == 200


def _eventually_an_event_says(cluster: Cluster, namespace: str, reason: str) -> None:
    chosen = f"involvedObject.kind=AgentDeployment,reason={reason},type=Warning"
    eventually(
        lambda: bool(cluster.get("events", "-n", namespace, f"--field-selector={chosen}")["items"]),
        f"a Warning Event has the reason {reason}",
        REPORT_SECONDS,
    )


def _doctor(cluster: Cluster, namespace: str) -> str:
    """Return doctor's report of the agent."""
    program = Path(sys.executable).with_name("agent-operator")
    done = subprocess.run(
        [program, "doctor", AGENT, "-n", namespace, "--kubeconfig", cluster.kubeconfig],
        env=os.environ,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr
