"""The main path: an AgentDeployment becomes pods that answer, follows its spec, and is deleted completely."""

import json
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from e2e.agents import (
    AGENT,
    READY_SECONDS,
    agent_object,
    agent_spec,
    apply_agent,
    client,
    events,
    is_ready,
    leftovers,
    messages,
    pods,
)
from e2e.traffic import steady_traffic
from stand_in import asking
from support.eventually import eventually
from support.operator import COMMAND
from testbed import paths
from testbed.cluster import Cluster

ANSWERS_SECONDS = 30

pytestmark = [pytest.mark.usefixtures("operator"), pytest.mark.timing]


def test_an_applied_agent_is_ready_and_answers_through_a_port_forward(
    real_cluster: Cluster, namespace: str, model_api: str
) -> None:
    apply_agent(real_cluster, namespace, agent_spec(model_api))

    agent = real_cluster.get("agentdeployment", AGENT, "-n", namespace)
    for kind in ("deployment", "service", "horizontalpodautoscaler", "secret", "configmap"):
        made = real_cluster.get(kind, AGENT, "-n", namespace)
        assert [owner["uid"] for owner in made["metadata"]["ownerReferences"]] == [agent["metadata"]["uid"]]
    with client(real_cluster, namespace) as http:
        answer = http.post("/chat", json={"message": "Is anybody in that pod?"}).raise_for_status().json()
    assert 'Stand-in heard "Is anybody in that pod?"' in answer["response"]
    assert "ship's pilot" in answer["response"]
    assert answer["tokens_used"] > 0


def test_kubectl_get_shows_a_ready_agent_and_where_to_reach_it(
    real_cluster: Cluster, namespace: str, model_api: str
) -> None:
    apply_agent(real_cluster, namespace, agent_spec(model_api, autoscaling={"enabled": False}, replicas=2))

    header, row = real_cluster.kubectl("get", "agentdeployments", "-n", namespace).splitlines()
    shown = dict(zip(header.split(), row.split(), strict=True))
    assert shown["READY"] == "True"
    assert shown["MODEL"] == "claude-sonnet-5-5"
    # The status promises that clients inside the cluster can use the URL once the proxy has the Service.
    with steady_traffic(real_cluster, shown["URL"]) as traffic:
        eventually(lambda: len(traffic.answers) >= 10, "ten answers", ANSWERS_SECONDS)
    assert traffic.failed == []


def test_a_stream_passes_through_while_the_model_still_generates(
    real_cluster: Cluster, namespace: str, model_api: str
) -> None:
    apply_agent(real_cluster, namespace, agent_spec(model_api))

    with client(real_cluster, namespace) as http, client(real_cluster, "model-api", "svc/model-api") as model:
        # The namespace has a name that no other test holds an answer by.
        message = {"message": asking("Slowly, please.", words=30, hold=namespace, after=5)}
        with http.stream("POST", "/chat/stream", json=message) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            stream = events(answer.iter_lines())
            first = next(stream)
            assert first["type"] == "text"
            seen = model.get("/stand-in/requests").json()
            assert [each["state"] for each in seen if each["message"] == message["message"]] == ["running"], seen
            model.put(f"/stand-in/released/{namespace}").raise_for_status()
            *texts, done = list(stream)
        assert {event["type"] for event in texts} == {"text"}
        assert done["type"] == "done"
        assert done["output_tokens"] > 0
        assert "Stand-in heard" in "".join(event["content"] for event in [first, *texts])


def test_the_logs_of_all_pods_are_shown_and_followed(real_cluster: Cluster, namespace: str, model_api: str) -> None:
    content = [{"name": "LOG_CONTENT", "value": "true"}]
    apply_agent(
        real_cluster,
        namespace,
        agent_spec(model_api, autoscaling={"enabled": False}, replicas=2, extraEnv=content),
    )
    names = pods(real_cluster, namespace)

    sources = {line.partition(" ")[0] for line in shown_logs(real_cluster, namespace)}
    assert sources == {f"{name}/agent" for name in names}

    with followed_logs(real_cluster, namespace) as lines:
        with client(real_cluster, namespace) as http:
            for request in ("one", "two"):
                http.post("/chat", json={"message": "Hello"}, headers={"X-Request-ID": request}).raise_for_status()
        eventually(lambda: any('"two"' in line for line in lines), "the lines of a request", READY_SECONDS)
        answering = next(line.partition("/")[0] for line in lines if '"one"' in line)
        other = next(name for name in names if name != answering)
        real_cluster.kubectl("delete", "pod", other, "-n", namespace)
        eventually(
            lambda: any(line.partition("/")[0] not in names for line in lines), "lines of the new pod", READY_SECONDS
        )

    # The message, the answer, and the end of the request.
    of_one = shown_logs(real_cluster, namespace, "--request-id=one")
    assert all(json.loads(line.partition(" ")[2])["request_id"] == "one" for line in of_one)
    assert len(of_one) == 3, of_one


def shown_logs(cluster: Cluster, namespace: str, *arguments: str) -> list[str]:
    """Return the lines that `kubectl agent logs` prints."""
    done = subprocess.run(
        logs_command(cluster, namespace, *arguments), capture_output=True, text=True, check=True, timeout=READY_SECONDS
    )
    return done.stdout.splitlines()


@contextmanager
def followed_logs(cluster: Cluster, namespace: str) -> Iterator[list[str]]:
    """Yield a list that grows by the lines of `kubectl agent logs --follow`, which Ctrl-C ends afterwards."""
    lines: list[str] = []
    command = logs_command(cluster, namespace, "--follow")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        reader = threading.Thread(target=lines.extend, args=(process.stdout,))
        reader.start()
        try:
            eventually(lambda: lines, "the first line", READY_SECONDS)
            yield lines
        finally:
            process.send_signal(signal.SIGINT)
            reader.join(READY_SECONDS)
        assert (process.wait(READY_SECONDS), process.stderr.read()) == (130, "")


def logs_command(cluster: Cluster, namespace: str, *arguments: str) -> list[str]:
    return [str(COMMAND), "logs", AGENT, "-n", namespace, "--kubeconfig", str(cluster.kubeconfig), *arguments]


def test_a_changed_spec_rolls_the_deployment(real_cluster: Cluster, namespace: str, model_api: str) -> None:
    spec = agent_spec(model_api)
    apply_agent(real_cluster, namespace, spec)
    before = pods(real_cluster, namespace)

    spec["agent"] |= {"systemPrompt": "Answer as a lighthouse keeper."}
    apply_agent(real_cluster, namespace, spec)

    assert not set(before) & set(pods(real_cluster, namespace))
    with client(real_cluster, namespace) as http:
        assert "lighthouse keeper" in http.post("/chat", json={"message": "Who are you?"}).json()["response"]


def test_a_stream_outlives_the_deletion_of_its_pod(real_cluster: Cluster, namespace: str, model_api: str) -> None:
    apply_agent(real_cluster, namespace, agent_spec(model_api))
    [pod] = pods(real_cluster, namespace)

    with client(real_cluster, namespace, f"pod/{pod}", 8000) as http:
        message = {"message": asking("A long one.", words=60, slow=0.2)}
        with http.stream("POST", "/chat/stream", json=message) as answer:
            stream = events(answer.iter_lines())
            assert next(stream)["type"] == "text"
            real_cluster.kubectl("delete", "pod", pod, "-n", namespace, "--wait=false")
            assert list(stream)[-1]["type"] == "done"


def test_an_image_that_cannot_be_pulled_is_reported(real_cluster: Cluster, namespace: str, model_api: str) -> None:
    apply_agent(real_cluster, namespace, agent_spec(model_api))

    broken = agent_spec(model_api, image={"tag": "no-such-tag", "pullPolicy": "Never"})
    real_cluster.kubectl("apply", "-n", namespace, "-f-", stdin=json.dumps(agent_object(broken)))

    eventually(lambda: "no-such-tag" in messages(real_cluster, namespace), "a condition names the image", READY_SECONDS)
    assert not is_ready(real_cluster, namespace)


def test_the_pods_run_with_no_privilege_and_no_token(real_cluster: Cluster, namespace: str, model_api: str) -> None:
    apply_agent(real_cluster, namespace, agent_spec(model_api))
    [pod] = pods(real_cluster, namespace)

    look = """
import os
print(os.getuid(), os.access("/", os.W_OK), os.access("/opt/portside", os.W_OK), os.access("/tmp", os.W_OK),
      os.path.exists("/var/run/secrets/kubernetes.io"), "key-of-the-tests" in str(dict(os.environ)))
"""
    seen = real_cluster.kubectl("exec", "-n", namespace, pod, "--", "python", "-c", look).split()
    assert seen == ["10001", "False", "False", "True", "False", "False"]


def test_deleting_an_agent_leaves_nothing(real_cluster: Cluster, namespace: str, model_api: str) -> None:
    apply_agent(real_cluster, namespace, agent_spec(model_api))
    assert leftovers(real_cluster, namespace)

    real_cluster.kubectl("delete", "agentdeployment", AGENT, "-n", namespace, "--timeout=30s")

    eventually(lambda: leftovers(real_cluster, namespace) == [], "nothing is left of the agent", READY_SECONDS)


def test_the_sample_works_unchanged(real_cluster: Cluster, namespace: str) -> None:
    sample = str(paths.REPOSITORY / "manifests" / "samples" / "echo-agent.yaml")
    real_cluster.kubectl("apply", "-n", namespace, "-f", sample)
    real_cluster.kubectl(
        "wait", "--for=condition=Ready", "agentdeployment/hello-agent", "-n", namespace, f"--timeout={READY_SECONDS}s"
    )
    with client(real_cluster, namespace, "svc/hello-agent") as http:
        assert "Hello" in http.post("/chat", json={"message": "Hello"}).json()["response"]
