"""A policy: which fields it covers, what it refuses, and how it is read."""

from pathlib import Path
from typing import Any

import pytest

from agent_operator.api.schema import Schema, structural
from agent_operator.api.spec import AgentSpec
from agent_operator.policy.checks import CHECKS
from agent_operator.policy.refusals import refusals
from agent_operator.policy.settings import Policy, PolicyError, load
from codegen.operator.admission import admission

# Fields that no check covers, and why. (A new field of the spec must be guarded or added here.)
SETTINGS = "what the agent's own process does"
LIKE_A_DEPLOYMENT = "what a Deployment has as well, within its own namespace"
NUMBER = "how many pods there are: quotas limit them"
OF_A_GUARDED_OBJECT = "counts only where the object is allowed"
JUDGED = "what no check is about, Pod Security admission judges, as of any pod"
NARROWS = "who may send requests to the agent's own pods, as an agent without a policy has it"
UNGUARDED: dict[str, str] = {
    "className": "a class bounds what an agent may be, and is the work of an administrator",
    "agent.": SETTINGS,
    "approvals.": SETTINGS,
    "api.": SETTINGS,
    "apiKey.": LIKE_A_DEPLOYMENT,
    "auth.": LIKE_A_DEPLOYMENT,
    "autoscaling.": NUMBER,
    "budget.": SETTINGS,
    "cors.": SETTINGS,
    "logging.": SETTINGS,
    "rateLimit.": SETTINGS,
    "replicas": NUMBER,
    "worker.": NUMBER,
    "redis.secret": LIKE_A_DEPLOYMENT,
    "image": LIKE_A_DEPLOYMENT,
    "affinity": LIKE_A_DEPLOYMENT,
    "envFrom": LIKE_A_DEPLOYMENT,
    "extraEnv": LIKE_A_DEPLOYMENT,
    "extraVolumeMounts": LIKE_A_DEPLOYMENT,
    "nodeSelector": LIKE_A_DEPLOYMENT,
    "resources": LIKE_A_DEPLOYMENT,
    **dict.fromkeys(
        (
            *("runtime.image", "runtime.imagePullPolicy", "runtime.command", "runtime.args", "runtime.workingDir"),
            *("runtime.env", "runtime.envFrom", "runtime.volumeMounts", "runtime.resources.", "runtime.code."),
        ),
        LIKE_A_DEPLOYMENT,
    ),
    **dict.fromkeys(
        (
            *("runtime.protocol", "runtime.port", "runtime.path", "runtime.healthPath", "runtime.startupSeconds"),
            *("runtime.maxTokens", "runtime.promptCaching"),
        ),
        SETTINGS,
    ),
    "runtime.securityContext.": JUDGED,
    "rollout.": LIKE_A_DEPLOYMENT,
    "tolerations": LIKE_A_DEPLOYMENT,
    "topologySpreadConstraints": LIKE_A_DEPLOYMENT,
    "ingress.": OF_A_GUARDED_OBJECT,
    "httpRoute.": OF_A_GUARDED_OBJECT,
    "monitoring.serviceMonitor.": OF_A_GUARDED_OBJECT,
    "networkPolicy.ingressFrom": NARROWS,
    "networkPolicy.scrapeFrom": NARROWS,
    "podSecurityContext.": JUDGED,
    "securityContext.": JUDGED,
    "podDisruptionBudget.enabled": "a budget that keeps no node from being drained harms no one",
    "service.port": "a port inside the cluster",
    "service.appProtocol": "how gateways read the agent's own port",
    "serviceAccount.create": "an account of the agent's own name; other names are guarded",
}


def test_every_field_is_guarded_or_known_not_to_exceed_the_rights_of_a_deployment() -> None:
    guarded = [check.path.replace("[]", "") for check in CHECKS]
    unknown = [
        field
        for field in _fields(structural(AgentSpec))
        if not any(path == field or path.startswith(f"{field}.") for path in guarded)
        and not any(field.startswith(known) for known in UNGUARDED)
    ]
    assert unknown == []


def _fields(schema: Schema, place: str = "") -> list[str]:
    fields = []
    for name, child in schema["properties"].items():
        inner = child.get("properties") if child.get("type") == "object" else None
        fields += _fields(child, f"{place}{name}.") if inner else [f"{place}{name}"]
    return fields


def test_every_setting_has_a_check_and_every_check_a_setting() -> None:
    assert {check.setting for check in CHECKS} == Policy().model_dump(by_alias=True).keys()
    assert {each["name"].partition("_")[0] for each in admission()["variables"]} >= {each.setting for each in CHECKS}


def policy(**settings: Any) -> Policy:
    return Policy.model_validate(settings)


def _refused(policy: Policy, **spec: Any) -> list[str]:
    return [
        fault.field for fault in refusals(AgentSpec.model_validate({"agent": {"provider": "echo"}, **spec}), policy)
    ]


def test_a_default_agent_is_allowed_by_a_default_policy() -> None:
    assert _refused(Policy()) == []
    assert _refused(Policy(), redis={"url": "redis://state"}, autoscaling={"enabled": True}, replicas=3) == []


@pytest.mark.parametrize(
    "container",
    [
        {"securityContext": {"privileged": True}},
        {"securityContext": {"capabilities": {"add": ["NET_BIND_SERVICE", "SYS_ADMIN"]}}},
        {"securityContext": {"procMount": "Unmasked"}},
        {"securityContext": {"seccompProfile": {"type": "Unconfined"}}},
        {"securityContext": {"appArmorProfile": {"type": "Unconfined"}}},
        {"securityContext": {"seLinuxOptions": {"type": "spc_t"}}},
        {"securityContext": {"windowsOptions": {"hostProcess": True}}},
        {"ports": [{"containerPort": 1}, {"containerPort": 2, "hostPort": 22}]},
        {"livenessProbe": {"httpGet": {"host": "169.254.169.254", "port": 80}}},
        {"startupProbe": {"tcpSocket": {"host": "10.0.0.1", "port": 22}}},
        {"lifecycle": {"postStart": {"httpGet": {"host": "169.254.169.254", "port": 80}}}},
        # No pod could have this; anything that cannot be judged is refused.
        {"securityContext": {"windowsOptions": "x"}},
    ],
)
@pytest.mark.parametrize("place", ["sidecars", "initContainers"])
def test_privileges_that_the_baseline_standard_forbids_are_refused(container: Any, place: str) -> None:
    spec = {place: [{"name": "x", "image": "busybox", **container}]}

    assert _refused(Policy(), **spec)
    assert all(field.startswith(f"spec.{place}[x].") for field in _refused(Policy(), **spec))
    assert _refused(Policy(privileges=True), **spec) == _refused(Policy(privileges=True))


def test_privileges_of_a_runtime_are_refused() -> None:
    runtime = {"image": "example.com/agent:1"}
    privileged = {**runtime, "securityContext": {"privileged": True}}

    assert _refused(Policy(), runtime=runtime) == []
    assert _refused(Policy(), runtime=privileged) == ["spec.runtime.securityContext.privileged"]
    assert _refused(Policy(privileges=True), runtime=privileged) == []


@pytest.mark.parametrize(
    ("kind", "source"),
    [
        ("hostPath", {"path": "/"}),
        ("nfs", {"server": "a", "path": "/"}),
        ("csi", {"driver": "a"}),
        *((kind, {}) for kind in ("iscsi", "flexVolume", "gcePersistentDisk", "ofTomorrow")),
    ],
)
def test_only_listed_volume_types_are_allowed(kind: str, source: dict[str, str]) -> None:
    volumes = [{"name": "x", kind: source}, {"name": "y", "emptyDir": {}}]

    assert _refused(Policy(), extraVolumes=volumes) == ["spec.extraVolumes[x]"]
    assert _refused(policy(volumeTypes=[kind, "emptyDir"]), extraVolumes=volumes) == []


@pytest.mark.parametrize(
    ("listed", "passes"),
    [(["*"], True), (["example.com/*"], True), (["example.com/x"], True), (["example.com/"], False), ([], False)],
)
def test_a_list_has_whole_keys_and_prefixes(listed: list[str], passes: bool) -> None:
    refused = _refused(policy(podAnnotations=listed), podAnnotations={"example.com/x": "y"})

    assert refused == ([] if passes else ["spec.podAnnotations[example.com/x]"])


def test_a_disabled_check_is_skipped() -> None:
    assert _refused(Policy(), ingress={"annotations": {"a": "b"}}, httpRoute={"annotations": {"a": "b"}}) == []
    assert _refused(Policy(), networkPolicy={"enabled": False, "extraEgress": [{}]}, redis={"url": "redis://h:1"}) == []


@pytest.mark.parametrize("entry", ["a", "ci-*", "*", "example.com/*", "http://h:9090/x?y=z", "a_b.c"])
def test_an_entry_is_a_value_or_a_prefix(entry: str) -> None:
    assert policy(podLabels=[entry]).by_name()["podLabels"] == [entry]


@pytest.mark.parametrize("entry", ["", "a,b", "a b", "a'", 'a"', "a\\", "**", "a*b", "*a", "ä", "a\n"])
def test_an_entry_has_no_character_that_would_break_a_config_map_or_an_expression(entry: str) -> None:
    with pytest.raises(ValueError, match="podLabels"):
        policy(podLabels=[entry])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", None),
        ("{}", Policy()),
        ("ingresses: true\npodLabels: [team]\negressPorts: [443]", "same"),
        ("apiVersion: v1\nkind: ConfigMap\ndata: {ingresses: 'true', podLabels: team, egressPorts: '443'}", "same"),
        ("ingresses: maybe", None),
        ("unknown: true", None),
        ("podLabels: ['a,b']", None),
        ("podLabels: ['*a']", None),
        ("egressPorts: [0]", None),
        ("apiVersion: v1\nkind: ConfigMap", None),
        ("- a", None),
        ("{", None),
    ],
)
def test_a_policy_is_read_from_settings_or_their_config_map(tmp_path: Path, text: str, expected: Any) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(text)
    if expected is None:
        with pytest.raises(PolicyError, match="policy"):
            load(file)
    else:
        same = policy(ingresses=True, podLabels=["team"], egressPorts=[443])
        assert load(file) == (same if expected == "same" else expected)


def test_a_policy_is_read_from_a_config_map_as_it_is_mounted(tmp_path: Path) -> None:
    (tmp_path / "..data").mkdir()
    for name, text in {"ingresses": "true", "podLabels": "team,a/*\n", "volumeTypes": ""}.items():
        (tmp_path / name).write_text(text)

    assert load(tmp_path) == policy(ingresses=True, podLabels=["team", "a/*"], volumeTypes=[])
