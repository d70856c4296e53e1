"""`kubectl agent usage` as users run it, with real agents behind a small API server."""

import base64
import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.agent import Service, running_service
from support.eventually import eventually
from support.pod_proxy import running_pod_proxy

COMMAND = Path(sys.executable).with_name("agent-operator")
WEB, OPS = "key-of-the-web-client-01", "key-of-the-operators-01"
KEYS = f"acme/web: {WEB}\nops: {OPS}\n"
GROUP = "/apis/portside.dev/v1alpha1"
READABLE = {"auth": {"enabled": True, "existingSecret": "callers", "usageReaders": ["ops"]}}


def listed(*agents: dict[str, Any]) -> dict[str, Any]:
    return {"kind": "AgentDeploymentList", "metadata": {}, "items": list(agents)}


def agent(name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "prod"}, "spec": spec}


def secret(keys: str) -> dict[str, Any]:
    metadata = {"name": "callers", "namespace": "prod", "resourceVersion": "1"}
    return {"kind": "Secret", "metadata": metadata, "data": {"API_KEYS": base64.b64encode(keys.encode()).decode()}}


def pods(*agents: str) -> dict[str, Any]:
    items = [
        {
            "metadata": {"name": f"{name}-0", "namespace": "prod", "labels": {"app.kubernetes.io/instance": name}},
            "status": {"phase": "Running"},
        }
        for name in agents
    ]
    return {"kind": "PodList", "metadata": {}, "items": items}


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Service]]:
    """Two pods of an agent, each with a state of its own, in which a client has asked once and twice."""
    with ExitStack() as stack:
        started = []
        for number in (1, 2):
            folder = tmp_path_factory.mktemp(f"pod-{number}")
            settings = {"API_KEYS": KEYS, "USAGE_READERS": "ops", "PRICE_OUTPUT": "5", "MODEL_PROVIDER": "echo"}
            service = stack.enter_context(running_service(folder, **settings, STATE_DIR=str(folder / "state")))
            stack.callback(service.kill)
            for _ in range(number):
                headers = {"Authorization": f"Bearer {WEB}"}
                assert httpx.post(f"{service.url}/chat", json={"message": "hello"}, headers=headers).status_code == 200
            started.append(service)
        yield started


def run(kubeconfig: Path, *arguments: str, key: str = "", code: int = 0) -> tuple[str, str]:
    """Run the command, and return what it prints to standard output and to standard error."""
    done = subprocess.run(
        [COMMAND, "usage", *arguments],
        env=os.environ | {"KUBECONFIG": str(kubeconfig), "API_KEYS": key},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout, done.stderr


def addresses(services: list[Service]) -> dict[str, str]:
    return {f"hello-{number}": service.url for number, service in enumerate(services)}


def test_the_usage_of_all_pods_is_added_up_with_the_readers_key(services: list[Service], tmp_path: Path) -> None:
    with running_pod_proxy(tmp_path, addresses(services)) as kubeconfig:
        rows = list(csv.DictReader(io.StringIO(run(kubeconfig, "hello", "-o", "csv", key=f"ops: {OPS}")[0])))
        assert [(row["tenant"], row["client"], row["requests"]) for row in rows] == [("acme", "acme/web", "3")]
        assert int(rows[0]["output_tokens"]) > 0
        assert float(rows[0]["cost"]) == pytest.approx(int(rows[0]["output_tokens"]) * 5 / 10**6)

        document = json.loads(run(kubeconfig, "hello", "-o", "json", "--since", "2d", key=OPS)[0])
        assert (document["usage"][0]["requests"], document["unreadable"]) == (3, [])

        table, note = run(kubeconfig, "hello", "--since", "2001-01-01", key=OPS)
        assert table.splitlines()[1].split()[:5] == ["prod", "hello", "acme", "acme/web", "3"]
        assert note.startswith("Note: prod/hello has its usage since ")
        assert run(kubeconfig, "hello", "--until", "2001-01-01", key=OPS)[0].count("\n") == 1


def test_agents_that_cannot_be_read_are_listed_with_the_reason_and_the_others_are_shown(
    services: list[Service], tmp_path: Path
) -> None:
    objects = {
        f"{GROUP}/agentdeployments": listed(
            agent("hello", READABLE),
            agent("asleep", READABLE),
            agent("open", {"auth": {"usageReaders": ["ops"]}}),
            agent("unread", {"auth": {"enabled": True}}),
        ),
        f"{GROUP}/namespaces/prod/agentdeployments/hello": agent("hello", READABLE),
        f"{GROUP}/namespaces/prod/agentdeployments/asleep": agent("asleep", READABLE),
        f"{GROUP}/namespaces/prod/agentdeployments/open": agent("open", {}),
        "/api/v1/namespaces/prod/secrets/callers": secret(KEYS),
        "/api/v1/pods": pods("hello", "of-the-chart"),
    }
    with running_pod_proxy(tmp_path, addresses(services), objects=objects) as kubeconfig:
        # A key in the environment is for named agents only.
        table, errors = run(kubeconfig, "-A", key="stolen-0000000000000001", code=1)

        assert [line.split()[1] for line in table.splitlines()[1:]] == ["hello"]
        reasons = dict(line.removeprefix("Error: prod/").split(": ", 1) for line in errors.splitlines())
        assert set(reasons) == {"asleep", "of-the-chart", "open", "unread"}
        assert "has no ready pod" in reasons["asleep"]
        assert "No AgentDeployment of-the-chart could be read" in reasons["of-the-chart"]
        assert "has no client keys" in reasons["open"]
        assert "auth.usageReaders" in reasons["unread"]

        document = json.loads(run(kubeconfig, "-A", "-o", "json", code=1)[0])
        assert [each["agent"] for each in document["agents"]] == ["hello"]
        assert [each["agent"] for each in document["unreadable"]] == sorted(reasons)
        assert run(kubeconfig, "-A", "-o", "csv", code=1)[0].count("\n") == 2


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("wrong-key-0000000001", "does not accept the client key in API_KEYS"),
        (WEB, "may read its own usage only"),
        ("", "set API_KEYS to a reader's key"),
    ],
)
def test_a_key_that_may_not_read_is_explained(services: list[Service], tmp_path: Path, key: str, words: str) -> None:
    with running_pod_proxy(tmp_path, addresses(services)) as kubeconfig:
        table, errors = run(kubeconfig, "hello", key=key, code=1)

        assert len(table.splitlines()) == 1
        assert errors.startswith("Error: prod/hello: ")
        assert words in errors
        assert "wrong-key" not in errors


def test_a_secret_whose_reader_was_removed_is_explained(services: list[Service], tmp_path: Path) -> None:
    objects = {
        f"{GROUP}/namespaces/prod/agentdeployments/hello": agent("hello", READABLE),
        "/api/v1/namespaces/prod/secrets/callers": secret(f"web: {WEB}"),
    }
    with running_pod_proxy(tmp_path, addresses(services), objects=objects) as kubeconfig:
        assert "Its Secret has no key of ops (auth.usageReaders)" in run(kubeconfig, "hello", code=1)[1]


def test_usage_survives_a_restart_of_the_pod(tmp_path: Path) -> None:
    settings = {"API_KEYS": KEYS, "USAGE_READERS": "ops", "MODEL_PROVIDER": "echo", "STATE_DIR": str(tmp_path / "s")}

    def used(service: Service) -> list[int]:
        found = httpx.get(f"{service.url}/usage/history?since=2001-01-01", headers={"X-API-Key": OPS})
        assert found.status_code == 200
        return [row["requests"] for row in found.json()["usage"]]

    with running_service(tmp_path, **settings) as service:
        headers = {"X-API-Key": WEB}
        assert httpx.post(f"{service.url}/chat", json={"message": "hello"}, headers=headers).status_code == 200
        service.terminate()
        service.wait()
    with running_service(tmp_path, **settings) as service:
        eventually(lambda: used(service) == [1], "the usage of the process before is there")
        service.kill()
