"""`kubectl agent approvals`, `approve` and `reject` as users run them, with real agents behind a small API server."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from stand_in import StandIn, asking
from support.agent import KEY, Service, running_service
from support.eventually import eventually
from support.pod_proxy import running_pod_proxy
from support.sums import running_sums_server

COMMAND = Path(sys.executable).with_name("agent-operator")
ASKER, APPROVER, OTHER = "asker-key-000000001", "approver-key-0000001", "other-key-0000000001"
ADD = {"name": "add", "input": {"a": 2, "b": 40}}


def name_of(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()[:16]


@dataclass
class Bed:
    """An agent `hello` with pods, and the commands of a user."""

    kubeconfig: Path
    pods: list[Service]
    key: str = ""

    def ask(self, *calls: dict[str, Any], pod: int = 0) -> dict[str, Any]:
        """Send a message that makes the model call tools, and return the answer, which waits."""
        body = {"message": asking("please", calls=[list(calls)])}
        answer = httpx.post(f"{self.pods[pod].url}/chat", json=body, headers=self._headers(), timeout=60)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        assert found["status"] == "input_required", found
        return found

    def submit(self) -> str:
        """Submit a task whose model calls a tool, wait until it waits, and return its id."""
        url = self.pods[0].url
        body = {"message": asking("please", calls=[[ADD]])}
        task: str = httpx.post(f"{url}/tasks", json=body, headers=self._headers()).json()["task_id"]
        eventually(lambda: self.task(task)["status"] == "input_required", "the task waits")
        return task

    def task(self, task: str) -> dict[str, Any]:
        found: dict[str, Any] = httpx.get(f"{self.pods[0].url}/tasks/{task}", headers=self._headers()).json()
        return found

    def run(self, command: str, *arguments: str, key: str | None = None, code: int = 0) -> str:
        """Run a command on the agent, and return what it prints: to standard error if it fails."""
        done = subprocess.run(
            [COMMAND, command, "hello", *arguments],
            env=os.environ | {"KUBECONFIG": str(self.kubeconfig), "API_KEYS": self.key if key is None else key},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stderr if code else done.stdout

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"} if self.key else {}


@pytest.fixture(scope="module")
def sums() -> Iterator[str]:
    with running_sums_server() as url:
        yield url


@pytest.fixture(scope="module")
def with_keys(sums: str, stand_in_process: StandIn, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    folder = tmp_path_factory.mktemp("keys")
    with ExitStack() as stack:
        keys = f"{ASKER},{APPROVER},{OTHER}"
        yield start(stack, folder, sums, stand_in_process, 1, key=ASKER, API_KEYS=keys)


@pytest.fixture
def bed(with_keys: Bed, stand_in: StandIn) -> Bed:
    """An agent with client keys, whose clients decide on their own calls."""
    return with_keys


def start(
    stack: ExitStack, folder: Path, sums: str, stand_in: StandIn, pods: int, *, key: str = "", **settings: str
) -> Bed:
    file = folder / "tools.json"
    entry = {"name": "sums", "mcp": {"url": sums}, "approve": ["add"]}
    file.write_text(json.dumps({"tools": [entry]}), encoding="utf-8")
    given = {"ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": stand_in.url, "TOOLS_FILE": str(file)}
    given |= {"RATE_LIMIT_REQUESTS": "0", "API_RUNS_TASKS": "true", **settings}
    states = [str(folder / f"state-{index}") for index in range(pods)]
    services = [stack.enter_context(running_service(folder, **given, STATE_DIR=state)) for state in states]
    for service in services:
        stack.callback(service.kill)
    addresses = {f"hello-{index}": service.url for index, service in enumerate(services)}
    return Bed(stack.enter_context(running_pod_proxy(folder, addresses)), services, key)


def test_a_call_is_listed_and_approved_and_the_rest_of_the_turn_is_printed(bed: Bed) -> None:
    asked = bed.ask(ADD)
    (waits,) = asked["approvals"]

    text = bed.run("approvals")
    for line in (
        f"ID:         {waits['id']}",
        "Tool:       add (server sums)",
        'Arguments:  {"a": 2, "b": 40}',
        f"Where:      conversation {asked['conversation_id']}",
        f"Client:     {name_of(ASKER)}",
    ):
        assert line in text.splitlines()

    done = bed.run("approve", waits["id"])
    assert done.startswith(f"Approved {waits['id']}. The agent continued:\n")
    assert "42" in done
    assert bed.run("approvals") == "No tool call waits for an approval.\n"


def test_the_model_learns_that_a_call_was_rejected_and_why(bed: Bed) -> None:
    (waits,) = bed.ask(ADD)["approvals"]

    done = bed.run("reject", waits["id"], "--reason", "Too expensive.")

    assert done.startswith(f"Rejected {waits['id']}. The agent continued:\n")
    assert "Too expensive." in done


def test_a_turn_with_several_calls_goes_on_after_the_last_decision(bed: Bed) -> None:
    first, second = bed.ask(ADD, {"name": "add", "input": {"a": 1, "b": 1}})["approvals"]

    done = bed.run("approve", first["id"], second["id"])

    lines = done.splitlines()
    assert lines[:3] == [
        f"Approved {first['id']}.",
        "These calls of the turn still wait:",
        f"  {second['id']}  add",
    ]
    assert lines[3] == f"Approved {second['id']}. The agent continued:"
    assert "42" in done


def test_a_call_of_a_task_is_listed_and_approved(bed: Bed) -> None:
    task = bed.submit()

    (listed,) = json.loads(bed.run("approvals", "-o", "json"))
    assert (listed["task_id"], listed["conversation_id"]) == (task, None)
    assert yaml.safe_load(bed.run("approvals", "-o", "yaml"))[0]["id"] == listed["id"]

    assert bed.run("approve", listed["id"]).startswith(f"Approved {listed['id']}. Task {task}: ")
    eventually(lambda: bed.task(task)["status"] == "completed", "the task ends")


def test_an_approver_decides_and_gets_no_part_of_the_answer(sums: str, stand_in: StandIn, tmp_path: Path) -> None:
    with ExitStack() as stack:
        keys = f"{ASKER},{APPROVER},{OTHER}"
        settings = {"API_KEYS": keys, "APPROVERS": name_of(APPROVER)}
        bed = start(stack, tmp_path, sums, stand_in, 1, key=ASKER, **settings)
        asked = bed.ask(ADD)
        (waits,) = asked["approvals"]

        assert "No tool call waits" in bed.run("approvals", key=OTHER)
        refused = bed.run("approve", waits["id"], "--conversation", asked["conversation_id"], key=ASKER, code=2)
        assert refused.startswith("Error: Agent hello: ")

        done = bed.run("approve", waits["id"], key=APPROVER)
        assert done == f"Approved {waits['id']}. The turn goes on when the client that asked continues it.\n"


def test_an_agent_without_keys_is_served_by_the_ids_of_its_answer_at_the_pod_that_has_them(
    sums: str, stand_in: StandIn, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        bed = start(stack, tmp_path, sums, stand_in, 2)
        asked = bed.ask(ADD, pod=1)
        (waits,) = asked["approvals"]

        for refused in (bed.run("approvals", code=2), bed.run("approve", waits["id"], code=2)):
            assert "has no client keys" in refused
            assert "--conversation or --task" in refused

        done = bed.run("approve", waits["id"], "--conversation", asked["conversation_id"])
        assert "42" in done


def test_calls_of_all_pods_are_listed(sums: str, stand_in: StandIn, tmp_path: Path) -> None:
    with ExitStack() as stack:
        bed = start(stack, tmp_path, sums, stand_in, 2, key=ASKER, API_KEYS=ASKER)
        ids = {bed.ask(ADD, pod=pod)["approvals"][0]["id"] for pod in (0, 1)}

        assert {call["id"] for call in json.loads(bed.run("approvals", "-o", "json"))} == ids
        assert bed.run("approve", *ids).count("The agent continued:") == 2


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("", "requires a client key: set the environment variable API_KEYS"),
        ("wrong-key-0000000001", "does not accept the client key in API_KEYS"),
    ],
)
def test_a_missing_or_wrong_key_is_explained(bed: Bed, key: str, words: str) -> None:
    refused = bed.run("approvals", key=key, code=2)

    assert words in refused
    assert len(refused.splitlines()) == 1
    assert "wrong-key" not in refused


def test_an_id_that_does_not_wait_is_explained(bed: Bed) -> None:
    unknown = "01890000-0000-7000-8000-000000000000.1"

    assert f"No call {unknown} on which you may decide waits" in bed.run("approve", unknown, code=2)
    assert "No tool call with this id waits here" in bed.run("approve", unknown, "--task", unknown[:-2], code=2)


def test_a_decision_that_is_taken_is_not_changed(bed: Bed) -> None:
    asked = bed.ask(ADD)
    (waits,) = asked["approvals"]
    place = ("--conversation", asked["conversation_id"])
    bed.run("approve", waits["id"], *place)

    assert bed.run("reject", waits["id"], *place, code=2).startswith("Error: Agent hello: ")


def test_an_agent_without_ready_pods_is_explained(bed: Bed) -> None:
    refused = bed.run("approvals", "-n", "elsewhere", code=2)

    assert "has no ready pod in namespace elsewhere: run `kubectl agent doctor hello -n elsewhere`" in refused
