"""Objects that an older definition let into etcd and that the present definition would reject."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from agent_operator.api.crd import crd
from support.eventually import eventually
from support.operator import Namespace, agent, install_definition, operator
from testbed.cluster import Cluster


def test_malformed_objects_of_an_older_definition_are_reported_and_affect_no_other(
    control_plane: Cluster, namespace: str
) -> None:
    here = Namespace(control_plane, namespace)
    install_definition(control_plane)
    long = "a" * 54
    malformed: dict[str, Any] = {
        "text": {"agent": {"provider": "echo", "maxTokens": "many"}},
        "list": {"agent": ["echo"]},
        "wrong": {"agent": {"provider": "oracle"}, "redis": "none"},
        "unknown": {"agent": {"provider": "echo"}, "replicas": {"of": "what"}},
        long: {"agent": {"provider": "echo"}},
    }
    with _lax_definition(here.cluster):
        for name, spec in malformed.items():
            here.apply({**agent(name), "spec": spec})
        none = agent("none")
        del none["spec"]
        here.apply(none)

    with operator(control_plane.kubeconfig, namespace) as process:
        for name in ("text", "unknown"):
            here.await_condition("Degraded", "True", "InvalidSpec", name)
        # No change of these is accepted, not even of their status, as rules cannot be evaluated on them: Events remain.
        expected = {"list": "spec.agent", "wrong": "spec.redis", long: "name must be at most 53"}
        for name, words in expected.items():
            eventually(lambda name=name, words=words: _is_reported(here, name, words), f"an Event reports {name}")  # type: ignore[misc]
        here.apply(agent())
        here.await_condition("Ready", "False", "RollingOut")
        assert {each["metadata"]["name"] for each in here.list("deployments")} <= {"hello", "none"}
        assert "Traceback" not in process.log

        here.kubectl("replace", "-f", "-", stdin=json.dumps(agent("text")))
        here.await_condition("Ready", "False", "RollingOut", "text")


def _is_reported(here: Namespace, name: str, words: str) -> bool:
    return any(each["involvedObject"]["name"] == name and words in each["message"] for each in here.list("events"))


@contextmanager
def _lax_definition(cluster: Cluster) -> Iterator[None]:
    """Replace the definition for a while by one that accepts anything."""
    definition = crd()
    anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"] = anything
    # With it the API server would still validate the replicas.
    del definition["spec"]["versions"][0]["subresources"]["scale"]
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=json.dumps(definition))
    eventually(lambda: "maxTokens" not in cluster.kubectl("explain", "agd.spec", check=False), "it is in force")
    try:
        yield
    finally:
        install_definition(cluster)
