"""What the kubelet's Events report of a folder of secrets that cannot be mounted."""

from typing import Any

import pytest

from agent_operator.controller.status.mount_problems import mount_problem, waits_for_mounts

Document = dict[str, Any]

DEPLOYMENT: Document = {
    "spec": {
        "template": {
            "spec": {
                "volumes": [
                    {"name": "tmp", "emptyDir": {}},
                    {
                        "name": "secrets",
                        "projected": {
                            "sources": [
                                {"secret": {"name": "keys", "items": [{"key": "anthropic", "path": "A"}]}},
                                {"configMap": {"name": "prompts", "items": [{"key": "main", "path": "B"}]}},
                            ]
                        },
                    },
                ]
            }
        }
    }
}


def failed(message: str, time: str = "2026-01-01T00:00:00Z", volume: str = "secrets") -> Document:
    text = f'MountVolume.SetUp failed for volume "{volume}" : {message}'
    return {"reason": "FailedMount", "message": text, "lastTimestamp": time}


@pytest.mark.parametrize(
    ("message", "reason", "words"),
    [
        ('secret "keys" not found', "SecretMissing", "Secret keys does not exist"),
        ('configmap "prompts" not found', "ConfigMapMissing", "ConfigMap prompts does not exist"),
        ("references non-existent secret key: anthropic", "SecretKeyMissing", "Secret keys has no key anthropic"),
        ("references non-existent config key: main", "ConfigMapKeyMissing", "ConfigMap prompts has no key main"),
        ("failed to sync secret cache", "MountFailed", "failed to sync secret cache"),
    ],
)
def test_the_missing_object_or_key_is_named(message: str, reason: str, words: str) -> None:
    problem = mount_problem(DEPLOYMENT, [failed(message)])

    assert problem is not None
    assert problem.reason == reason
    assert words in problem.message


def test_the_latest_event_counts() -> None:
    events = [failed('secret "keys" not found', "2026-01-01T00:00:09Z"), failed("timed out", "2026-01-01T00:00:01Z")]

    problem = mount_problem(DEPLOYMENT, events)

    assert problem is not None
    assert problem.reason == "SecretMissing"


def test_other_events_and_volumes_are_ignored() -> None:
    pulling = {"reason": "Pulling", "message": 'volume "secrets"'}

    assert mount_problem(DEPLOYMENT, [pulling, failed("no such disk", volume="data")]) is None


@pytest.mark.parametrize(
    ("message", "volume", "reason", "words"),
    [
        ('configmap "code" not found', "runtime-code", "ConfigMapMissing", "ConfigMap code does not exist"),
        (
            "references non-existent config key: agent.py",
            "runtime-code",
            "ConfigMapKeyMissing",
            "ConfigMap code has no key agent.py",
        ),
        ("disk on fire", "runtime-prompt", "MountFailed", "The system prompt of the runtime cannot be mounted"),
    ],
)
def test_what_the_volumes_of_a_runtime_lack_is_named(message: str, volume: str, reason: str, words: str) -> None:
    source = {"name": "code", "items": [{"key": "agent.py", "path": "agent.py"}]}
    pod = {"volumes": [{"name": "runtime-code", "configMap": source}]}

    problem = mount_problem({"spec": {"template": {"spec": pod}}}, [failed(message, volume=volume)])

    assert problem is not None
    assert problem.reason == reason
    assert words in problem.message


def test_a_pod_with_a_started_container_has_its_mounts() -> None:
    runtime = {"name": "runtime", "state": {"running": {}}}
    agent = {"name": "agent", "state": {"waiting": {"reason": "PodInitializing"}}}
    status = {"initContainerStatuses": [runtime], "containerStatuses": [agent]}

    assert waits_for_mounts([{"metadata": {"name": "a"}, "status": status}]) is None


def test_only_a_pod_whose_containers_are_being_created_waits() -> None:
    def pod(name: str, reason: str) -> Document:
        state = {"name": "agent", "state": {"waiting": {"reason": reason}}}
        return {"metadata": {"name": name}, "status": {"containerStatuses": [state]}}

    assert waits_for_mounts([pod("b", "ContainerCreating"), pod("a", "CrashLoopBackOff")]) == "b"
    assert waits_for_mounts([pod("a", "CrashLoopBackOff")]) is None
