"""An agent is changed, scaled and deleted by kubectl while it serves; the operator fails and another takes over."""

import time
from pathlib import Path

import pytest

from e2e.agents import (
    AGENT,
    READY_SECONDS,
    apply_agent,
    apply_spec,
    client,
    events,
    is_ready,
    leftovers,
    pods,
    put_secret,
    secret_spec,
    wait_for_reason,
)
from e2e.traffic import steady_traffic
from stand_in import asking
from support.eventually import eventually
from testbed.cluster import Cluster

pytestmark = [pytest.mark.usefixtures("operator"), pytest.mark.timing]
OPERATOR = ("deployment/agent-operator", "-n", "portside-system")
CGROUPS = Path("/sys/fs/cgroup")
PROMPT = "Answer as a lighthouse keeper."


def test_a_change_rolls_out_without_cutting_a_stream_or_losing_a_request(
    real_cluster: Cluster, namespace: str, model_api: str
) -> None:
    put_secret(real_cluster, namespace, "key-of-the-tests")
    spec = secret_spec(model_api)
    apply_agent(real_cluster, namespace, spec)
    [old] = pods(real_cluster, namespace)

    with (
        steady_traffic(real_cluster, f"http://{AGENT}.{namespace}") as traffic,
        client(real_cluster, namespace, f"pod/{old}", 8000) as http,
        http.stream("POST", "/chat/stream", json={"message": asking("Long.", words=80, slow=0.15)}) as answer,
    ):
        stream = events(answer.iter_lines())
        assert next(stream)["type"] == "text"
        spec["agent"] |= {"systemPrompt": PROMPT, "model": "claude-haiku-4-5"}
        apply_spec(real_cluster, namespace, spec)
        # It waits for the change, as each condition has its observedGeneration.
        ready = ["wait", "--for=condition=Ready", f"agentdeployment/{AGENT}", f"--timeout={READY_SECONDS}s"]
        real_cluster.kubectl(*ready, "-n", namespace)
        real_cluster.kubectl("rollout", "status", f"deployment/{AGENT}", "-n", namespace, "--timeout=5s")
        assert old not in pods(real_cluster, namespace)
        eventually(lambda: "lighthouse" in traffic.last(), "the new prompt is used", READY_SECONDS)
        assert list(stream)[-1]["type"] == "done"
        # A node may route requests to the old pod briefly after its termination starts; the pod answers them.
        eventually(lambda: "claude-haiku-4-5" in traffic.last(), "the new model is used", READY_SECONDS)

    assert traffic.failed == []
    assert "pilot" in traffic.answers[0]["said"]


def test_ready_is_not_true_while_the_new_revision_is_not_serving(
    real_cluster: Cluster, namespace: str, model_api: str
) -> None:
    put_secret(real_cluster, namespace, "key-of-the-tests")
    spec = secret_spec(model_api)
    apply_agent(real_cluster, namespace, spec)

    with steady_traffic(real_cluster, f"http://{AGENT}.{namespace}") as traffic:
        apply_spec(real_cluster, namespace, spec | {"nodeSelector": {"example.com/deck": "upper"}})
        wait_for_reason(real_cluster, namespace, "Unschedulable", READY_SECONDS)
        assert not is_ready(real_cluster, namespace)
        waited = real_cluster.kubectl(
            "wait", "--for=condition=Ready", f"agentdeployment/{AGENT}", "-n", namespace, "--timeout=1s", check=False
        )
        assert "condition met" not in waited
        apply_agent(real_cluster, namespace, spec)

    assert traffic.answers
    assert traffic.failed == []


def test_kubectl_scale_sets_the_number_of_pods(real_cluster: Cluster, namespace: str, model_api: str) -> None:
    put_secret(real_cluster, namespace, "key-of-the-tests")
    apply_agent(real_cluster, namespace, secret_spec(model_api))

    real_cluster.kubectl("scale", "agentdeployment", AGENT, "--replicas=2", "-n", namespace)

    eventually(lambda: len(pods(real_cluster, namespace)) == 2, "there are two pods", READY_SECONDS)
    eventually(lambda: is_ready(real_cluster, namespace), "the agent is Ready", READY_SECONDS)
    assert real_cluster.get("agentdeployment", AGENT, "-n", namespace)["status"]["readyReplicas"] == 2


def test_an_agent_and_its_children_are_deleted_while_no_operator_runs(
    real_cluster: Cluster, namespace: str, model_api: str
) -> None:
    put_secret(real_cluster, namespace, "key-of-the-tests")
    apply_agent(real_cluster, namespace, secret_spec(model_api, auth={"enabled": True}))
    replicas = real_cluster.get(*OPERATOR)["spec"]["replicas"]

    real_cluster.kubectl("scale", *OPERATOR, "--replicas=0")
    try:
        eventually(lambda: _operators(real_cluster) == [], "no operator runs", READY_SECONDS)
        real_cluster.kubectl("delete", "agentdeployment", AGENT, "-n", namespace, "--timeout=30s")
        ours = ["secret/anthropic"]
        eventually(lambda: leftovers(real_cluster, namespace) == ours, "only our Secret is left", READY_SECONDS)
    finally:
        real_cluster.kubectl("scale", *OPERATOR, f"--replicas={replicas}")
        real_cluster.kubectl("rollout", "status", *OPERATOR, f"--timeout={READY_SECONDS}s")


def test_another_operator_takes_over_when_the_leader_crashes(
    real_cluster: Cluster, namespace: str, model_api: str
) -> None:
    put_secret(real_cluster, namespace, "key-of-the-tests")
    apply_agent(real_cluster, namespace, secret_spec(model_api))
    eventually(lambda: len(_operators(real_cluster)) == 2, "two operators run", READY_SECONDS)
    pod = eventually(lambda: _leading_pod(real_cluster), "one of them leads", READY_SECONDS)
    leader = _leader(real_cluster)

    _crash(real_cluster, pod)
    killed = time.monotonic()
    apply_agent(real_cluster, namespace, secret_spec(model_api, agent={"baseUrl": model_api, "systemPrompt": PROMPT}))

    print(f"{time.monotonic() - killed:.1f} s from the crash of the leader to a changed agent that serves")  # noqa: T201
    assert _leader(real_cluster) not in {"", leader}
    with client(real_cluster, namespace) as http:
        assert "lighthouse" in http.post("/chat", json={"message": "Who are you?"}).json()["response"]


def _crash(cluster: Cluster, pod: str) -> None:
    """Kill all processes of the operator's pod without warning, so that none of them releases its Lease.

    If the nodes are not on this machine the pod is deleted by force, which is the most that kubectl can do.
    """
    uid = cluster.get("pod", pod, "-n", OPERATOR[2])["metadata"]["uid"]
    # Named by the kubelet, with - or _ depending on its cgroup driver.
    groups = [each for name in (uid, uid.replace("-", "_")) for each in CGROUPS.glob(f"**/*{name}*/cgroup.kill")]
    for group in groups:
        # A pod's cgroup contains those of its containers, which are killed with it.
        if group.exists():
            group.write_text("1")  # Linux, cgroup-v2: "cgroup.kill"
    if not groups:
        cluster.kubectl("delete", "pod", pod, "-n", OPERATOR[2], "--force", "--grace-period=0")


def _operators(cluster: Cluster) -> list[str]:
    """Return the names of the operator's pods that are ready and not terminating."""
    found = cluster.get("pods", "-n", OPERATOR[2], "-l", "app.kubernetes.io/name=agent-operator")["items"]
    return sorted(
        pod["metadata"]["name"]
        for pod in found
        if "deletionTimestamp" not in pod["metadata"]
        and all(each["ready"] for each in pod["status"].get("containerStatuses", [{"ready": False}]))
    )


def _leading_pod(cluster: Cluster) -> str | None:
    """Return the pod that leads; None until one of those that run does."""
    leader = _leader(cluster)
    return next((name for name in _operators(cluster) if leader.startswith(name)), None)


def _leader(cluster: Cluster) -> str:
    """Return the holder of the operators' Lease."""
    holder: str = cluster.get("lease", "agent-operator", "-n", OPERATOR[2])["spec"].get("holderIdentity", "")
    return holder
