"""What doctor concludes from evidence. The cluster tests verify it with a real API server; these are the edge cases."""

import asyncio
import re
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from agent_operator.manifests.document import Document
from agent_operator.tools.doctor import gather
from agent_operator.tools.doctor.diagnose import judge
from agent_operator.tools.doctor.evidence import Evidence, Health, Lease, Reference, references
from agent_operator.tools.doctor.identity import STEPS
from agent_operator.tools.doctor.redact import last_line
from agent_operator.tools.doctor.report import Report, to_text
from agent_service.routes.health import Tools, ToolServer
from testbed import paths

DOCUMENT = (paths.REPOSITORY / "docs" / "reference" / "kubectl-agent.md").read_text()

ALIVE = Lease("portside-system", "agent-operator", "operator-1", 1.0, alive=True)
LABELS = {"app.kubernetes.io/component": "api"}


def evidence(*, ready: bool = False, replicas: int = 1, available: int = 0, **seen: Any) -> Evidence:
    """Return an agent whose status is current, with a Deployment and a Service."""
    condition = {
        "type": "Ready",
        "status": str(ready),
        "reason": "RollingOut",
        "message": "Starting",
        "observedGeneration": 2,
    }
    agent = {
        "apiVersion": "portside.dev/v1alpha1",
        "kind": "AgentDeployment",
        "metadata": {"name": "hello", "namespace": "prod", "uid": "uid", "generation": 2},
        "spec": {"agent": {"provider": "echo"}},
        "status": {"observedGeneration": 2, "conditions": [condition]},
    }
    owner = {"kind": "AgentDeployment", "name": "hello", "uid": "uid", "controller": True}
    metadata = {"name": "hello", "namespace": "prod", "ownerReferences": [owner], "generation": 1}
    deployment = {
        "kind": "Deployment",
        "metadata": metadata,
        "spec": {"replicas": replicas, "template": {"spec": {}}},
        "status": {"availableReplicas": available},
    }
    service = {"kind": "Service", "metadata": metadata, "spec": {"selector": {"a": "b"}}}
    objects: dict[tuple[str, str], Document] = {("Deployment", "hello"): deployment, ("Service", "hello"): service}
    seen.setdefault("leases", [ALIVE])
    # Nothing could be read of the other kinds.
    unseen = dict.fromkeys(("configmaps", "serviceaccounts", "networkpolicies", "poddisruptionbudgets"), "forbidden")
    return Evidence("prod", "hello", agent=agent, objects=objects, unseen={**unseen, **seen.pop("unseen", {})}, **seen)


def pod(state: Document | None = None, *, ready: bool = False, name: str = "hello-1") -> Document:
    container = {"name": "agent", "image": "x", "ready": ready, "state": state or {"running": {}}}
    return {
        "metadata": {"name": name, "namespace": "prod", "labels": LABELS},
        "spec": {"containers": [{"name": "agent", "resources": {"limits": {"memory": "512Mi"}}}]},
        "status": {
            "phase": "Running",
            "podIP": "10.0.0.1",
            "conditions": [{"type": "Ready", "status": str(ready)}],
            "containerStatuses": [container],
        },
    }


def reasons(report: Report) -> list[str]:
    return [each.reason for each in report.findings]


def states(report: Report) -> dict[str, str]:
    return {step.name: step.state for step in report.steps}


def test_the_first_problem_along_the_chain_is_the_cause() -> None:
    crashing = pod({"terminated": {"exitCode": 1, "reason": "Error"}})
    missing = Reference("Secret", "anthropic", "volume secrets", "KEY")

    report = judge(evidence(pods=[crashing], missing=[missing], leases=[]))

    assert report.cause is not None
    assert report.cause.reason == "SecretMissing"
    assert reasons(report)[1:2] == ["CrashLoopBackOff"]
    assert "OperatorNotSeen" in reasons(report)[2:]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({"ready": False, "reason": "credentials refused"}, "CredentialsRefused"),
        ({"ready": False, "reason": "starting"}, "Starting"),
        ({"ready": False, "reason": "draining"}, "Draining"),
        ({"ready": False, "reason": "no luck"}, "ReadinessFails"),
    ],
)
def test_a_pod_that_is_not_ready_is_probed_directly(answer: Document, reason: str) -> None:
    report = judge(evidence(pods=[pod()], health={"hello-1": Health(answer, None)}))

    assert report.cause is not None
    assert report.cause.reason == reason


@pytest.mark.parametrize(("kind", "reason"), [(kind, reason) for kind, (reason, _) in STEPS.items()])
def test_the_step_of_a_workload_identity_that_fails_is_the_cause(kind: str, reason: str) -> None:
    down = {"components": {"model_api": {"status": "down", "kind": kind, "detail": "AWS STS said no."}}}
    health = {"hello-1": Health({"ready": False, "reason": "credentials refused"}, down)}

    report = judge(evidence(pods=[pod()], health=health))

    assert report.cause is not None
    assert report.cause.reason == reason
    assert "AWS STS said no" in report.cause.message
    assert reasons(report).count(reason) == 1


def test_a_model_that_the_region_does_not_have_is_a_note() -> None:
    down = {"components": {"model_api": {"status": "down", "kind": "model_not_found", "detail": "No such model."}}}

    report = judge(
        evidence(ready=True, available=1, pods=[pod(ready=True)], health={"hello-1": Health({"ready": True}, down)})
    )

    assert "ModelNotFound" in reasons(report)
    assert "modelIds" in to_text(report)


def test_an_unavailable_redis_is_a_note_even_if_the_agent_is_ready() -> None:
    down = {"components": {"redis": {"status": "down", "detail": "redis://user:pw@state did not answer"}}}

    report = judge(
        evidence(ready=True, available=1, pods=[pod(ready=True)], health={"hello-1": Health({"ready": True}, down)})
    )

    assert report.ready
    assert "RedisUnreachable" in reasons(report)
    assert "user:pw" not in to_text(report)


def test_an_issuer_whose_keys_cannot_be_fetched_is_a_note_with_the_field() -> None:
    detail = "The keys of https://login.example could not be fetched (unreadable): the earlier ones stay in use."
    down = {"components": {"issuers": {"status": "down", "kind": "unreadable", "detail": detail}}}

    report = judge(
        evidence(ready=True, available=1, pods=[pod(ready=True)], health={"hello-1": Health({"ready": True}, down)})
    )

    assert report.ready
    assert "IssuerUnavailable" in reasons(report)
    assert detail in to_text(report)
    assert "auth.jwt.issuers" in to_text(report)


def test_a_change_by_another_manager_that_the_operator_leaves_is_a_note() -> None:
    seen = evidence(ready=True, available=1, pods=[pod(ready=True)])
    assert seen.agent is not None
    message = "Deployment hello differs from the spec and is left as it is"
    drifted = {"type": "Drifted", "status": "True", "reason": "ChangedByAdmission", "message": message}
    seen.agent["status"]["conditions"].append(drifted)

    report = judge(seen)

    assert report.ready
    assert "Drifted" in reasons(report)
    assert "kubectl agent diff hello -n prod" in to_text(report)


def test_an_agent_is_not_ready_while_its_status_is_of_an_older_generation() -> None:
    seen = evidence(ready=True, available=1)
    assert seen.agent is not None
    seen.agent["metadata"]["generation"] = 3
    seen.agent["status"]["conditions"][0]["observedGeneration"] = 2

    report = judge(seen)

    assert not report.ready
    assert report.cause is not None
    assert report.cause.reason == "NotReconciled"


def test_a_ready_status_is_not_trusted_when_no_pod_is_ready() -> None:
    report = judge(evidence(ready=True, available=0))

    assert not report.ready
    assert report.cause is not None
    assert states(report)["pods"] == "wrong"


def test_a_stopped_operator_is_a_note_while_the_agent_serves() -> None:
    dead = Lease("portside-system", "agent-operator", "operator-1", 3600.0, alive=False)

    report = judge(evidence(ready=True, available=1, leases=[dead]))

    assert report.ready
    assert [each.note for each in report.findings if each.reason == "OperatorStopped"] == [True]


def test_a_service_without_endpoints_is_the_cause_only_if_pods_are_ready() -> None:
    assert "NoEndpoints" not in reasons(judge(evidence()))
    assert "NoEndpoints" in reasons(judge(evidence(available=1)))
    ready = {"endpoints": [{"conditions": {"ready": True}}]}
    assert "NoEndpoints" not in reasons(judge(evidence(available=1, slices=[ready])))


def test_a_step_that_waits_for_an_earlier_one_is_not_a_problem() -> None:
    report = judge(evidence(pods=[pod({"waiting": {"reason": "ImagePullBackOff", "message": "not found"}})]))

    assert states(report)["pods"] == "wrong"
    assert states(report)["service"] == "waits"


def test_a_stuck_rollout_is_not_a_cause_beside_what_blocks_it() -> None:
    seen = evidence(pods=[pod({"terminated": {"exitCode": 137, "reason": "OOMKilled"}})])
    seen.objects["Deployment", "hello"]["status"]["conditions"] = [
        {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}
    ]

    report = judge(seen)

    assert reasons(report)[0] == "OOMKilled"
    assert "RolloutStuck" not in reasons(report)
    assert "(512Mi)" in report.findings[0].message


def test_an_invalid_spec_is_the_cause_and_its_objects_are_not_judged() -> None:
    seen = evidence()
    assert seen.agent is not None
    seen.agent["spec"] = {"agent": {"provider": "echo", "maxTokens": "many"}}

    report = judge(seen)

    assert report.cause is not None
    assert report.cause.reason == "InvalidSpec"
    assert "spec.agent.maxTokens" in report.cause.message


def test_an_agent_that_is_being_deleted_reports_what_it_waits_for() -> None:
    seen = evidence(ready=True, available=1)
    assert seen.agent is not None
    seen.agent["metadata"] |= {"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["example.com/hold"]}

    report = judge(seen)

    assert report.cause is not None
    assert report.cause.reason == "BeingDeleted"
    assert "example.com/hold" in report.cause.message


def test_unreadable_evidence_is_reported() -> None:
    text = to_text(judge(evidence(unseen={"events": "events is forbidden"})))

    assert "Could not be read, so there may be other problems:\n" in text
    assert "  events: events is forbidden" in text


def test_every_secret_and_config_map_that_a_pod_needs_is_found() -> None:
    template = {
        "spec": {
            "volumes": [
                {"name": "one", "secret": {"secretName": "s1"}},
                {
                    "name": "two",
                    "projected": {
                        "sources": [
                            {"secret": {"name": "s2", "items": [{"key": "K", "path": "p"}]}},
                            {"configMap": {"name": "c1", "optional": True}},
                        ]
                    },
                },
            ],
            "containers": [
                {
                    "name": "agent",
                    "envFrom": [{"configMapRef": {"name": "c2"}}, {"secretRef": {"name": "s3", "optional": True}}],
                    "env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s4", "key": "k"}}}],
                }
            ],
        }
    }

    found = [(each.kind, each.name, each.key) for each in references(template)]

    assert found == [
        ("Secret", "s1", None),
        ("Secret", "s2", "K"),
        ("ConfigMap", "c2", None),
        ("Secret", "s4", "k"),
    ]


@pytest.mark.parametrize(
    ("log", "shown"),
    [
        ("one\ntwo\n\n", "two"),
        ('{"level": "error", "message": "it broke"}', "it broke"),
        ("", ""),
        ("key sk-ant-api03-abc_DEF refused", "key *** refused"),
        ("Authorization: Bearer abc.def", "Authorization: Bearer ***"),
        ("redis://user:pw@state:6379/0 is away", "redis://***@state:6379/0 is away"),
        ("password=hunter2, next", "password=***, next"),
        ('{"message": "x", "api_key": "abc"}', "x"),
        ("got 0123456789abcdef0123456789abcdef here", "got *** here"),
        ("pod hello-7d4b9c8f6-x2x9z on node worker-1", "pod hello-7d4b9c8f6-x2x9z on node worker-1"),
    ],
)
def test_a_last_line_is_shown_without_secrets(log: str, shown: str) -> None:
    assert last_line(log) == shown


def test_the_documentation_shows_the_output_of_doctor() -> None:
    seen = evidence(replicas=2, missing=[Reference("Secret", "anthropic", "volume secrets", "ANTHROPIC_API_KEY")])
    seen.unseen = {}
    for kind in ("ConfigMap", "ServiceAccount", "NetworkPolicy"):
        seen.objects[kind, "hello"] = {**seen.objects["Service", "hello"], "kind": kind}

    text = to_text(judge(seen)).partition("\n\nAlso:")[0]

    assert text in DOCUMENT


def test_every_reason_is_documented() -> None:
    folder = paths.REPOSITORY / "operator" / "agent_operator"
    sources = "".join(
        file.read_text()
        for part in ("tools/doctor", "classes", "controller", "kube")
        for file in (folder / part).rglob("*.py")
    )
    documented = set(re.findall(r"`([A-Z][A-Za-z]+)`", DOCUMENT.partition("## doctor")[2].partition("\n## ")[0]))
    said = set(re.findall(r'Finding\(\s*"\w+",\s*"(\w+)"', sources))

    assert len(said) > 15
    assert said <= documented
    assert [each for each in documented if f'"{each}"' not in sources and not each.endswith("Missing")] == []


def unhealthy(message: str, time: str, pod: str = "hello-1") -> Document:
    return {
        "reason": "Unhealthy",
        "message": message,
        "lastTimestamp": time,
        "involvedObject": {"kind": "Pod", "name": pod},
    }


START = "2026-01-01T00:00:00Z"
REFUSED = (
    'Startup probe failed: Get "http://10.0.0.1:8000/health/live": dial tcp 10.0.0.1:8000: connect: connection refused'
)
LATE = 'Readiness probe failed: Get "http://10.0.0.1:8000/health/ready": context deadline exceeded'


@pytest.mark.parametrize(
    ("started", "message", "time", "reason"),
    [
        # An event of the previous run, one of another probe, and the usual refusals of the first seconds are no cause.
        (True, LATE, "2025-12-31T23:59:59Z", "Starting"),
        (False, LATE, "2026-01-01T00:00:02Z", "Starting"),
        (False, REFUSED, "2026-01-01T00:00:03Z", "Starting"),
        (True, LATE, "2026-01-01T00:00:09Z", "ReadinessFails"),
        (
            True,
            "Readiness probe failed: HTTP probe failed with statuscode: 503",
            "2026-01-01T00:00:09Z",
            "ReadinessFails",
        ),
        (False, REFUSED, "2026-01-01T00:00:40Z", "NotAnAgent"),
        (False, "Startup probe failed: HTTP probe failed with statuscode: 404", "2026-01-01T00:00:02Z", "NotAnAgent"),
        (
            False,
            (
                'Startup probe failed: Get "http://10.0.0.1:8000/health/live": net/http: HTTP/1.x transport connection '
                'broken: malformed HTTP response "\\x00"'
            ),
            "2026-01-01T00:00:02Z",
            "NotAnAgent",
        ),
    ],
)
def test_a_pod_that_is_starting_is_distinguished_from_one_that_never_will(
    started: bool, message: str, time: str, reason: str
) -> None:
    starting = pod({"running": {"startedAt": START}})
    starting["status"]["containerStatuses"][0]["started"] = started

    report = judge(evidence(pods=[starting], events=[unhealthy(message, time)]))

    assert report.cause is not None
    assert report.cause.reason == reason


@pytest.mark.parametrize(
    ("ended", "words", "remedy"),
    [
        ({"exitCode": 0, "reason": "Completed"}, "this may not be the image of an agent", "correct image.repository"),
        ({"exitCode": 127, "reason": "Error"}, "not the image of an agent", "correct image.repository"),
        (
            {"exitCode": 128, "reason": "StartError", "message": 'exec: "x"'},
            "not the image of an agent",
            "correct image",
        ),
        ({"exitCode": 2, "reason": "Error", "message": "DEFAULT_MODEL: x"}, "its settings are wrong. Its", "fix"),
        ({"exitCode": 2, "reason": "Error", "message": "usage: x [-h]"}, "or it is not the image", "correct image"),
        ({"exitCode": 143, "reason": "Error"}, "asked to stop, by its probes", "fix"),
        ({"exitCode": 1, "reason": "Error"}, "exit code 1 (Error)", "fix the error that the container reports"),
    ],
)
def test_a_termination_has_a_cause_and_matching_advice(ended: Document, words: str, remedy: str) -> None:
    crashing = pod({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}})
    crashing["status"]["containerStatuses"][0]["lastState"] = {"terminated": ended}

    cause = judge(evidence(pods=[crashing])).cause

    assert cause is not None
    assert cause.reason == "CrashLoopBackOff"
    assert words in cause.message
    assert remedy in cause.remedy


def test_a_deployment_that_was_scaled_to_zero_under_its_autoscaler_is_the_cause() -> None:
    seen = evidence(replicas=0)
    assert seen.agent is not None
    seen.agent["spec"]["autoscaling"] = {"enabled": True, "minReplicas": 2}
    disabled = {
        "type": "ScalingActive",
        "status": "False",
        "reason": "ScalingDisabled",
        "message": "scaling is disabled",
    }
    seen.objects["HorizontalPodAutoscaler", "hello"] = {
        "kind": "HorizontalPodAutoscaler",
        "metadata": seen.objects["Service", "hello"]["metadata"],
        "spec": {"minReplicas": 2, "maxReplicas": 5},
        "status": {"conditions": [disabled]},
    }

    report = judge(seen)

    assert report.cause is not None
    assert report.cause.reason == "ScaledToZeroByHand"
    assert report.cause.remedy == "kubectl scale deployment/hello -n prod --replicas=2"
    assert "ScalingDisabled" not in reasons(report)


def test_a_sentence_ends_with_one_full_stop() -> None:
    waiting = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes. preempted."}
    unplaced = pod({"waiting": {}})
    unplaced["status"]["conditions"].append(waiting)

    assert ".." not in to_text(judge(evidence(pods=[unplaced])))


def test_a_pod_whose_network_cannot_be_created_is_the_cause() -> None:
    waiting = pod({"waiting": {"reason": "ContainerCreating"}})
    event = {**unhealthy('plugin type="calico" failed (add)', START), "reason": "FailedCreatePodSandBox"}

    assert reasons(judge(evidence(pods=[waiting], events=[event])))[0] == "PodSandboxFailed"


class Leases:
    """An API server with a Lease that is no longer renewed, and without a pod."""

    async def list(self, *_: Any, **__: Any) -> list[Document]:
        now = datetime.now(UTC).isoformat()
        spec = {"holderIdentity": "operator-1_a1b2", "renewTime": now, "leaseDurationSeconds": 15}
        self.document = getattr(self, "document", None) or {
            "metadata": {"namespace": "portside-system", "name": "agent-operator"},
            "spec": spec,
        }
        return [self.document]

    async def get(self, *_: Any, **__: Any) -> None:
        return None


def test_a_lease_of_an_operator_whose_pod_is_gone_is_not_a_sign_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gather, "SECOND_READ_SECONDS", 0.0)

    leases, unseen = asyncio.run(gather.operators(cast("Any", Leases())))

    assert unseen is None
    assert [each.alive for each in leases] == [False]


def with_runtime(runtime: Document, *events: Document, health: Document | None = None, **spec: Any) -> Report:
    """Return the report on an agent whose pod has a runtime with this status."""
    one = pod({"waiting": {"reason": "PodInitializing"}} if not runtime.get("started") else None)
    one["status"]["initContainerStatuses"] = [{"name": "runtime", "image": "x", "ready": False, **runtime}]
    about = {"name": "hello-1", "fieldPath": "spec.initContainers{runtime}"}
    healths = {} if health is None else {"hello-1": Health({"ready": True}, {"components": {"runtime": health}})}
    seen = evidence(pods=[one], events=[{**each, "involvedObject": about} for each in events], health=healths)
    assert seen.agent is not None
    seen.agent["spec"]["runtime"] = {"image": "example.com/agent:1", **spec}
    return judge(seen)


def probe_failed(message: str, time: str = "2026-01-01T00:00:09Z") -> Document:
    return {"reason": "Unhealthy", "message": message, "lastTimestamp": time}


RUNS: Document = {"state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}
REFUSED = 'Startup probe failed: Get "http://10.0.0.1:8080/ping": dial tcp 10.0.0.1:8080: connect: connection refused'


def test_a_runtime_that_just_starts_is_no_fault_yet() -> None:
    report = with_runtime({**RUNS, "started": False}, probe_failed(REFUSED))

    assert report.cause is not None
    assert report.cause.reason == "Starting"
    assert "waits for its runtime" in report.cause.message


def test_a_runtime_that_listens_elsewhere_is_the_cause_with_its_last_line() -> None:
    ended = {"exitCode": 143, "startedAt": "2026-01-01T00:00:00Z", "finishedAt": "2026-01-01T00:02:00Z"}
    last = {"terminated": {**ended, "reason": "Error", "message": "Running on http://127.0.0.1:5000\n"}}
    report = with_runtime({**RUNS, "started": False, "lastState": last}, probe_failed(REFUSED))

    assert report.cause is not None
    assert report.cause.reason == "RuntimeNotResponding"
    assert "CrashLoopBackOff" not in reasons(report)
    assert "nothing listens on port 8080" in report.cause.message
    assert 'Its last line: "Running on http://127.0.0.1:5000"' in report.cause.message
    assert "set runtime.port" in report.cause.remedy
    assert "kubectl logs hello-1 -n prod -c runtime" in report.cause.remedy


def test_a_runtime_that_is_busy_and_fails_its_readiness_probe_is_the_cause() -> None:
    failure = "Readiness probe failed: HTTP probe failed with statuscode: 503"
    report = with_runtime({**RUNS, "started": True}, probe_failed(failure))

    assert report.cause is not None
    assert report.cause.reason == "RuntimeNotResponding"
    assert "503 at /ping" in report.cause.message
    assert "while it is busy" in report.cause.remedy


@pytest.mark.parametrize(
    ("health", "reason", "words"),
    [
        ({"status": "up", "detail": "The agent's runtime answers, and is busy."}, "RuntimeBusy", "HealthyBusy"),
        (
            {"status": "up", "detail": "The agent's runtime answers, with an outdated version of its file: …"},
            "CodeOutdated",
            "kubectl logs hello-1 -n prod -c runtime",
        ),
        ({"status": "down", "kind": "no_endpoint", "detail": "It has none."}, "RuntimeUnavailable", "runtime.protocol"),
    ],
)
def test_what_the_pod_reports_of_its_runtime_is_a_note(health: Document, reason: str, words: str) -> None:
    report = with_runtime({**RUNS, "started": True, "ready": True}, health=health)

    assert reason in reasons(report)
    assert words in to_text(report)


def with_tools(servers: dict[str, Any], *tools: Document, status: str = "up") -> Report:
    """Return the report on a ready agent with these tools, whose pod reports on these servers."""
    component = {"status": status, "detail": "A server is down.", "servers": servers}
    health = {"hello-1": Health({"ready": True}, {"components": {"tools": component}})}
    seen = evidence(ready=True, available=1, pods=[pod(ready=True)], health=health)
    assert seen.agent is not None
    seen.agent["spec"]["tools"] = list(tools)
    return judge(seen)


SEARCH = {"name": "search", "mcp": {"url": "https://search.example.com/mcp"}, "allow": ["find", "read_*"]}
ORDERS = {"name": "orders", "mcp": {"url": "http://orders.shop:8000/mcp"}, "onUnavailable": "fail"}
ANSWERS = {"status": "up", "server": "Search 1.4", "revision": "2025-11-25", "tools": 12, "offered": 1}


def step(report: Report, name: str) -> tuple[str, str]:
    return next((each.state, each.message) for each in report.steps if each.name == name)


def test_the_answer_of_each_server_is_shown() -> None:
    report = with_tools({"search": ANSWERS}, SEARCH)

    answer = "search answers (Search 1.4, revision 2025-11-25, 1 of 12 tools are offered)"
    assert step(report, "tools") == ("ok", answer)
    assert step(judge(evidence()), "tools") == ("ok", "no servers of tools")
    assert step(with_tools({}, SEARCH), "tools") == ("unknown", "no pod reports on the servers of its tools")
    assert step(with_tools({"search": ANSWERS}, SEARCH, ORDERS), "tools") == ("unknown", f"{answer}; orders unknown")


def test_the_service_reports_the_fields_that_doctor_reads() -> None:
    assert {*ANSWERS, "kind", "renamed", "unmatched"} <= ToolServer.model_fields.keys()
    assert "servers" in Tools.model_fields


def test_a_server_that_is_down_is_named_with_its_cause_and_its_effect() -> None:
    refused = {"status": "down", "kind": "credentials_refused"}
    away = {"status": "down", "kind": "connection_refused"}
    report = with_tools({"search": refused, "orders": away}, SEARCH, ORDERS, status="down")
    required, optional = (each for each in report.findings if each.step == "tools")

    assert report.ready
    assert (required.reason, required.note) == ("RequiredToolServerDown", False)
    assert "orders (its address refuses connections)" in required.message
    assert "503" in required.message
    assert (optional.reason, optional.note) == ("ToolServerDown", True)
    assert "check the Secrets of mcp.headersFrom" in optional.message
    assert step(report, "tools")[0] == "wrong"


def test_globs_that_match_nothing_and_renamed_tools_are_notes() -> None:
    found = {**ANSWERS, "unmatched": ["read_*", "a text of the pod"], "renamed": ["search__find", "<b>"]}
    text = to_text(with_tools({"search": found}, SEARCH))

    assert "AllowMatchesNothing: Entries of allow match no tool of their server: search: read_*." in text
    assert "ToolsRenamed: Servers have tools of the same name, which are offered as search__find." in text


@pytest.mark.parametrize(
    "servers",
    ["text", {"search": None}, {"search": {"status": 1, "kind": [], "tools": "x"}}, {"other": ANSWERS}, [ANSWERS]],
)
def test_a_pod_may_report_anything_of_its_tools(servers: Any) -> None:
    assert step(with_tools(servers, SEARCH), "tools")[0] == "unknown"


def test_a_server_cannot_show_a_secret_or_control_the_terminal() -> None:
    for stated in ("key sk-ant-api03-secret", "\x1b[31mred"):
        text = to_text(with_tools({"search": {**ANSWERS, "server": stated}}, SEARCH))
        assert "secret" not in text
        assert "\x1b" not in text


def test_a_reference_without_an_address_is_a_finding() -> None:
    seen = evidence(ready=True, available=1, pods=[pod(ready=True)])
    assert seen.agent is not None
    seen.agent["spec"]["tools"] = [SEARCH]
    message = "tools[search].mcp.serverRef: MCPServer prod/search does not exist"
    degraded = {"type": "Degraded", "status": "True", "reason": "ToolServerUnresolved", "message": message}
    seen.agent["status"]["conditions"].append(degraded)

    assert ("ToolServerUnresolved", True) in [(each.reason, each.note) for each in judge(seen).findings]


@pytest.mark.parametrize(
    ("state", "reason", "remedy"),
    [
        (
            {"waiting": {"reason": "ErrImagePull", "message": "x: not found"}},
            "ImagePullBackOff",
            "correct runtime.image: there is no such image",
        ),
        (
            {"waiting": {"reason": "CreateContainerConfigError", "message": "image will run as root, runAsNonRoot"}},
            "CreateContainerConfigError",
            "set runtime.securityContext.runAsUser",
        ),
        (
            {"terminated": {"exitCode": 137, "reason": "OOMKilled"}},
            "OOMKilled",
            "raise runtime.resources.limits.memory",
        ),
        (
            {"terminated": {"exitCode": 128, "reason": "StartError"}},
            "CrashLoopBackOff",
            "correct runtime.image or runtime.command",
        ),
    ],
)
def test_advice_for_the_runtimes_container_names_fields_of_the_runtime(
    state: Document, reason: str, remedy: str
) -> None:
    report = with_runtime({"state": state, "started": False})

    assert report.cause is not None
    assert report.cause.reason == reason
    assert remedy in report.cause.remedy
    assert remedy not in report.cause.message
