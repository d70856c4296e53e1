"""The operator with a failing API server, and killed at every step: a proxy injects the faults."""

import json
import math
import random
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from support.eventually import eventually
from support.operator import Namespace, OperatorProcess, agent, operator, rights_everywhere
from support.operator.proxy import Harm, Proxy, Request, proxy_to
from testbed.cluster import Cluster

pytestmark = pytest.mark.timing

# As many kinds of objects as one agent can have without kinds of other products.
RICH: dict[str, Any] = {
    "autoscaling": {"enabled": True},
    "apiKey": {"value": "sk-test-key"},
    "auth": {"enabled": True},
    "redis": {"url": "redis://redis:6379/0"},
    "worker": {"enabled": True},
    "podDisruptionBudget": {"enabled": True},
    "networkPolicy": {"enabled": True},
}
KINDS = (
    "configmaps,secrets,serviceaccounts,services,deployments,"
    "horizontalpodautoscalers,poddisruptionbudgets,networkpolicies"
)
SECONDS = 60
# This many errors in a row for one agent would mean 2^7 times the first pause of a quarter of a second, and half as
# much on top. In addition the garbage collector takes up to a minute to discover a definition.
MOST_HARMS = 60
LONGEST_PAUSE_SECONDS = 180


@pytest.fixture(scope="module")
def rights(control_plane: Cluster) -> Iterator[Path]:
    """A kubeconfig with the documented rights on the whole cluster."""
    with rights_everywhere(control_plane, "portside-faults-test") as kubeconfig:
        yield kubeconfig


@pytest.fixture
def proxy(rights: Path, tmp_path: Path) -> Iterator[Proxy]:
    """The proxy between the operator and the API server."""
    with proxy_to(rights, tmp_path) as proxy:
        yield proxy


@pytest.fixture
def here(control_plane: Cluster, namespace: str) -> Namespace:
    """A fresh namespace."""
    return Namespace(control_plane, namespace)


def test_an_operator_killed_at_any_write_leaves_nothing_that_the_next_one_does_not_finish(
    here: Namespace, proxy: Proxy
) -> None:
    with operator(proxy.kubeconfig, here.name):
        # An API server that has only just discovered the definition refuses owner references to it.
        here.apply(agent("first", **RICH))
        eventually(lambda: _counts(here, "first"), "the first agent is settled")
        here.apply(agent("agent-00", **RICH))
        eventually(lambda: _counts(here, "agent-00"), "the undisturbed agent is settled")
        # The HorizontalPodAutoscaler controller reports on a new autoscaler only at its next sync.
        here.await_condition("ScalingActive", "False", "FailedGetResourceMetric", "agent-00")
    wanted = _state(here, "agent-00")
    steps = len(_children(here, "agent-00")) + 1
    names = [f"agent-{step:02}" for step in range(1, steps + 1)]

    for number, name in enumerate(names, 1):
        with operator(proxy.kubeconfig, here.name) as process:
            proxy.rule = _killing(process, name, at=number)
            here.apply(agent(name, **RICH))
            process.await_end()
        proxy.rule = None
    with operator(proxy.kubeconfig, here.name):
        for name in names:
            _await_state(here, name, wanted)

    for name in ["agent-00", *names]:
        done = [each.path for each in proxy.writes_about(name) if each.passed and _is_of_a_child(each)]
        assert len(done) == len(set(done)) == steps - 1, f"each object of {name} was written once"


@pytest.mark.parametrize("seed", [1, 2])
def test_errors_of_the_api_server_lose_nothing(here: Namespace, proxy: Proxy, seed: int) -> None:
    with operator(proxy.kubeconfig, here.name) as process:
        proxy.rule = _at_random(seed)
        names = [f"agent-{number}" for number in range(5)]
        for name in [*names, "leaves"]:
            here.apply(agent(name, autoscaling={"enabled": True}))
        made = "all are made in spite of it"
        eventually(lambda: all(_counts(here, name) for name in names), made, LONGEST_PAUSE_SECONDS)
        for name in names:
            here.apply(agent(name, replicas=2))
        here.kubectl("delete", "service", *names)
        here.kubectl("delete", "agentdeployment", "leaves")

        def settled() -> bool:
            kinds = {kind: {each["metadata"]["name"] for each in here.list(kind)} for kind in ("hpa", "svc", "deploy")}
            two = all(each["spec"]["replicas"] == 2 for each in here.list("deploy"))
            return kinds == {"hpa": set(), "svc": set(names), "deploy": set(names)} and two

        eventually(settled, "all changes arrive in spite of it", LONGEST_PAUSE_SECONDS)
        eventually(lambda: all(_counts(here, name, 2) for name in names), "and their status is current", SECONDS)
        assert "Traceback" not in process.log

    refused = [each.code for each in proxy.seen if not each.passed]
    assert {409, 429, 500, None} <= set(refused), "all the harm was done"


def test_failed_writes_are_retried_with_exponential_backoff(here: Namespace, proxy: Proxy) -> None:
    with operator(proxy.kubeconfig, here.name):
        proxy.rule = _refusing_writes("configmaps", "stuck")
        here.apply(agent("stuck"))
        here.apply(agent("well"))
        here.await_condition("Degraded", "True", "ApplyFailing", "stuck")
        here.await_condition("Ready", "False", "RollingOut", "well")
        tries = eventually(
            lambda: found if len(found := _tries(proxy, "configmaps", "stuck")) >= 5 else None, "5 tries"
        )
        proxy.rule = None
        here.await_condition("Degraded", "False", "AsExpected", "stuck")

    # Events of the objects that could be created trigger the agent once or twice; apart from that each pause is twice
    # the one before, with a jitter of at least half and at most one and a half of it.
    most = 3 + math.log2((tries[-1] - tries[0]) / 0.25 + 1)
    assert len(tries) <= most, f"it is left in peace for longer and longer: {tries}"
    assert tries[-1] - tries[-2] > 1


@pytest.mark.parametrize("code", [429, 503])
def test_requests_are_not_retried_before_the_time_the_api_server_named(
    here: Namespace, proxy: Proxy, code: int
) -> None:
    busy = iter([True, True])

    def rule(request: Request) -> Harm | None:
        if request.path.endswith("/configmaps/hello") and request.writes and next(busy, False):
            return Harm(answer=code, retry_after=3)
        return None

    with operator(proxy.kubeconfig, here.name):
        proxy.rule = rule
        here.apply(agent())
        here.await_condition("Degraded", "False", "AsExpected")

    first, second, third = _tries(proxy, "configmaps", "hello")
    assert second - first >= 3
    assert third - second >= 3


def test_of_many_changes_the_last_counts_and_few_are_written(here: Namespace, proxy: Proxy) -> None:
    delay = 0.3
    with operator(proxy.kubeconfig, here.name):
        here.apply(agent())
        eventually(lambda: _counts(here, "hello"), "the agent is settled")
        before = len(_tries(proxy, "configmaps", "hello"))
        proxy.rule = lambda request: Harm(wait=delay) if request.writes else None
        changes = [agent(agent={"provider": "echo", "maxTokens": number}) for number in range(1, 51)]
        here.kubectl("apply", "--server-side", "-f", "-", stdin="\n---\n".join(map(json.dumps, changes)))
        eventually(lambda: here.get("configmap")["data"]["MAX_TOKENS"] == "50", "the last change is applied")
        eventually(lambda: here.condition("Ready")["observedGeneration"] == 51, "and is in the status")
        tries = _tries(proxy, "configmaps", "hello")[before:]

    # Writes run one at a time, each with the delay: changes made meanwhile become one.
    assert len(tries) <= 2 + (tries[-1] - tries[0]) / delay
    assert len(tries) < 25
    assert all(later - earlier >= delay for earlier, later in pairwise(tries))


def test_a_change_first_seen_in_the_response_to_a_status_write_is_reconciled(here: Namespace, proxy: Proxy) -> None:
    finished = 'agent_operator_reconciles_total{result="success"}'
    before = math.inf

    def rule(request: Request) -> None:
        nonlocal before
        if b'"observedGeneration": 2' in request.body and not proxy.held:
            before = process.metric(finished)
            # The event of this change is older than the response to the write, which arrives before it.
            proxy.held = True
            here.apply(agent(agent={"provider": "echo", "systemPrompt": "Be kind."}))

    with operator(proxy.kubeconfig, here.name) as process:
        here.apply(agent())
        here.await_rollout()
        here.await_condition("Ready", "False", "RollingOut")
        proxy.rule = rule
        # Generation 2. It changes only the status, so no event of another object triggers the operator.
        here.apply(agent(autoscaling={"enabled": False, "maxReplicas": 7}))
        eventually(lambda: process.metric(finished) > before, "the status is written")
        proxy.held = False

        eventually(lambda: here.get("configmap")["data"].get("SYSTEM_PROMPT") == "Be kind.", "the setting is there")


def test_a_deletion_without_an_event_is_restored_with_the_next_list(here: Namespace, proxy: Proxy) -> None:
    with operator(proxy.kubeconfig, here.name, resync_seconds=4):
        here.apply(agent(**RICH))
        eventually(lambda: _counts(here, "hello"), "the agent is settled")
        before = _children(here, "hello")
        assert before.keys() >= {"ConfigMap hello", "Service hello", "Deployment hello", "Secret hello"}

        proxy.muted = True
        for child in before:
            kind, name = child.split()
            here.kubectl("delete", kind, name, "--cascade=orphan", "--force", "--grace-period=0")

        eventually(lambda: _children(here, "hello").keys() == before.keys(), "all are back", SECONDS)
        eventually(lambda: not _children(here, "hello").items() & before.items(), "as new objects", SECONDS)


def _killing(process: OperatorProcess, name: str, *, at: int) -> Any:
    """Return a rule that kills the operator when it sends write number `at` about the agent, which does not arrive."""
    count = 0

    def rule(request: Request) -> Harm | None:
        nonlocal count
        if not (request.writes and request.is_about(name)):
            return None
        count += 1
        if count < at:
            return None
        process.kill()
        return Harm(hang_up="before")

    return rule


def _refusing_writes(plural: str, name: str) -> Any:
    """Return a rule that answers every write of the object with a server error."""
    return lambda request: Harm(answer=500) if request.writes and request.path.endswith(f"/{plural}/{name}") else None


def _at_random(seed: int) -> Any:
    """Return a rule that injects faults into a random third of the requests of any kind, up to a maximum number.

    Without a maximum it would now and then hit one agent so often in a row that its retry pauses grow to
    minutes.
    """
    chance = random.Random(seed)  # noqa: S311  not secrecy
    left = iter(range(MOST_HARMS))
    harms = [
        Harm(answer=429, retry_after=1),
        Harm(answer=500),
        Harm(hang_up="before"),
        Harm(hang_up="after"),
        Harm(wait=0.5),
    ]

    def rule(request: Request) -> Harm | None:
        if chance.random() > 1 / 3 or next(left, None) is None:
            return None
        return chance.choice([*harms, Harm(answer=409)] if request.writes else harms)

    return rule


def _tries(proxy: Proxy, plural: str, name: str) -> list[float]:
    """Return the times of the attempts to write the object."""
    return [each.at for each in proxy.writes_about(name) if each.path.endswith(f"/{plural}/{name}")]


def _is_of_a_child(request: Request) -> bool:
    return "/agentdeployments/" not in request.path and not request.path.endswith("/events")


def _counts(here: Namespace, name: str, replicas: int | None = None) -> bool:
    """Return whether the agent's status counts pods, which is written last."""
    status = (here.find("agentdeployment", name) or {}).get("status", {})
    counted = status.get("replicas", 0)
    return bool(counted == replicas if replicas is not None else counted)


def _children(here: Namespace, name: str) -> dict[str, str]:
    """Return the uids of the agent's objects by kind and name."""
    uid = here.get("agentdeployment", name)["metadata"]["uid"]
    return {
        f"{each['kind']} {each['metadata']['name']}": each["metadata"]["uid"]
        for each in here.list(KINDS)
        if any(owner["uid"] == uid for owner in each["metadata"].get("ownerReferences", []))
    }


def _await_state(here: Namespace, name: str, wanted: dict[str, Any]) -> None:
    try:
        eventually(lambda: _state(here, name) == wanted, f"{name} is as if nothing had been")
    except AssertionError:
        assert _state(here, name) == wanted  # the failure shows where they differ
        raise


def _state(here: Namespace, name: str) -> dict[str, Any]:
    """Return the agent's objects and status, without anything that differs between two agents."""
    children = _children(here, name)
    found: dict[str, Any] = {}
    for each in here.list(KINDS):
        if f"{each['kind']} {each['metadata']['name']}" in children:
            metadata = {key: each["metadata"].get(key) for key in ("name", "labels")}
            content = {key: each[key] for key in ("data", "spec") if key in each}
            if each["metadata"]["name"].endswith("-client-keys"):
                content = {"data": list(content["data"])}
            for of_one in ("clusterIP", "clusterIPs"):
                content.get("spec", {}).pop(of_one, None)
            # The settings, whose checksum it is, contain the agent's name.
            annotations = content.get("spec", {}).get("template", {}).get("metadata", {}).get("annotations", {})
            annotations.pop("portside.dev/config-checksum", None)
            found[f"{each['kind']} {each['metadata']['name']}"] = {"metadata": metadata, **content}
    status = here.get("agentdeployment", name).get("status", {})
    for condition in status.get("conditions", []):
        del condition["lastTransitionTime"]
    text = json.dumps({"children": found, "status": status}, sort_keys=True).replace(name, "NAME")
    state: dict[str, Any] = json.loads(text)
    return state
