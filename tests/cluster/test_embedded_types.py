"""Types of the fields that a spec passes on to Kubernetes: nothing is rejected that the API server accepts."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from agent_operator.api.crd import crd
from agent_operator.api.schema import INT_OR_STRING, VERBATIM, Schema
from support.operator import Namespace, agent, install_definition
from testbed.cluster import Cluster
from testbed.errors import TestbedError

SPEC = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
POLICY = SPEC["networkPolicy"]["properties"]
CORE, NETWORKING, SCALING = "api/v1", "apis/networking.k8s.io/v1", "apis/autoscaling/v2"
VALUE_FROM = SPEC["extraEnv"]["items"]["properties"]["valueFrom"]
BEHAVIOR = SPEC["autoscaling"]["properties"]["behavior"]
TYPED = {
    "valueFrom": (VALUE_FROM, CORE, "io.k8s.api.core.v1.EnvVarSource"),
    "behavior": (BEHAVIOR, SCALING, "io.k8s.api.autoscaling.v2.HorizontalPodAutoscalerBehavior"),
    "Affinity": (SPEC["affinity"], CORE, "io.k8s.api.core.v1.Affinity"),
    "PodSecurityContext": (SPEC["podSecurityContext"], CORE, "io.k8s.api.core.v1.PodSecurityContext"),
    "SecurityContext": (SPEC["securityContext"], CORE, "io.k8s.api.core.v1.SecurityContext"),
    "ingressFrom": (POLICY["ingressFrom"]["items"], NETWORKING, "io.k8s.api.networking.v1.NetworkPolicyPeer"),
    "scrapeFrom": (POLICY["scrapeFrom"]["items"], NETWORKING, "io.k8s.api.networking.v1.NetworkPolicyPeer"),
    "sidecars": (SPEC["sidecars"]["items"], CORE, "io.k8s.api.core.v1.Container"),
    "initContainers": (SPEC["initContainers"]["items"], CORE, "io.k8s.api.core.v1.Container"),
    "extraVolumes": (SPEC["extraVolumes"]["items"], CORE, "io.k8s.api.core.v1.Volume"),
    "extraEgress": (POLICY["extraEgress"]["items"], NETWORKING, "io.k8s.api.networking.v1.NetworkPolicyEgressRule"),
}


# Required in every container of a pod.
STRICTER = {"sidecars.image is not required", "initContainers.image is not required"}


def differences(ours: Schema, theirs: Schema, components: dict[str, Schema], path: str) -> Iterator[str]:
    """Yield where our schema accepts less than theirs, one line each."""
    references = [each["$ref"] for each in [theirs, *theirs.get("allOf", [])] if "$ref" in each]
    theirs = components[references[0].rpartition("/")[2]] if references else theirs
    yield from _of_node(ours, theirs, path)
    for name, child in ours.get("properties", {}).items():
        if name in theirs.get("properties", {}):
            yield from differences(child, theirs["properties"][name], components, f"{path}.{name}")
        else:
            yield f"{path}.{name} is unknown"
    for part in ("items", "additionalProperties"):
        if isinstance(ours.get(part), dict):
            yield from differences(ours[part], theirs[part], components, f"{path}[]")


def _of_node(ours: Schema, theirs: Schema, path: str) -> Iterator[str]:
    if ours.get(INT_OR_STRING):
        if theirs.get("format") != "int-or-string":
            yield f"{path} is {theirs}"
    elif ours["type"] != theirs["type"]:
        yield f"{path} is {theirs['type']}, not {ours['type']}"
    if ours.get("type") == "object" and "additionalProperties" not in ours and not ours.get(VERBATIM):
        yield f"{path} drops fields"
    for name in sorted(set(ours.get("required", [])) - set(theirs.get("required", []))):
        yield f"{path}.{name} is not required"


@pytest.mark.parametrize("name", TYPED)
def test_a_type_accepts_all_that_the_api_server_accepts(control_plane: Cluster, name: str) -> None:
    ours, group, component = TYPED[name]
    components = json.loads(control_plane.kubectl("get", "--raw", f"/openapi/v3/{group}"))["components"]["schemas"]

    assert list(differences(ours, components[component], components, name)) == sorted(
        each for each in STRICTER if each.startswith(f"{name}.")
    )


BESIDE = {"name": "beside", "image": "busybox"}
WRONG: list[tuple[str, dict[str, Any]]] = [
    ("spec.affinity.nodeAffinity", {"affinity": {"nodeAffinity": "here"}}),
    ("spec.securityContext.runAsUser", {"securityContext": {"runAsUser": "root"}}),
    ("spec.podSecurityContext.fsGroup", {"podSecurityContext": {"fsGroup": "staff"}}),
    ("spec.networkPolicy.ingressFrom[0].podSelector", {"networkPolicy": {"ingressFrom": [{"podSelector": "all"}]}}),
    ("spec.sidecars[0].env", {"sidecars": [{**BESIDE, "env": {"A": "b"}}]}),
    ("spec.sidecars[0].ports[0].containerPort", {"sidecars": [{**BESIDE, "ports": [{"containerPort": "http"}]}]}),
    ("spec.sidecars[0].livenessProbe.httpGet", {"sidecars": [{**BESIDE, "livenessProbe": {"httpGet": {"path": "/"}}}]}),
    ("spec.initContainers[0].command", {"initContainers": [{**BESIDE, "command": "true"}]}),
    ("spec.extraVolumes[0].configMap", {"extraVolumes": [{"name": "v", "configMap": "settings"}]}),
    ("spec.extraVolumes[0].hostPath.path", {"extraVolumes": [{"name": "v", "hostPath": {"type": "Directory"}}]}),
    ("spec.networkPolicy.extraEgress[0].to", {"networkPolicy": {"extraEgress": [{"to": {"ipBlock": {}}}]}}),
]


@pytest.mark.parametrize(("field", "spec"), WRONG, ids=[field for field, _ in WRONG])
def test_a_value_of_a_wrong_type_is_rejected_with_its_path(
    control_plane: Cluster, namespace: str, field: str, spec: dict[str, Any]
) -> None:
    install_definition(control_plane)
    here = Namespace(control_plane, namespace)

    with pytest.raises(TestbedError, match=r"Invalid value|failed to create typed") as refused:
        here.apply(agent(**spec))

    assert field.rpartition(".")[2].partition("[")[0] in str(refused.value)


def test_unknown_fields_are_kept(control_plane: Cluster, namespace: str) -> None:
    install_definition(control_plane)
    here = Namespace(control_plane, namespace)
    newer: dict[str, Any] = {
        "affinity": {"newer": {"a": [1]}, "nodeAffinity": {"newer": True}},
        "securityContext": {"newer": "x", "capabilities": {"drop": ["ALL"], "newer": 1}},
        "podSecurityContext": {"sysctls": [{"name": "a", "value": "b"}], "newer": None},
        "sidecars": [{**BESIDE, "newer": {"a": [None]}, "ports": [{"containerPort": 1, "newer": 1.5}]}],
        "extraVolumes": [
            {"name": "v", "emptyDir": {"sizeLimit": 0.5, "newer": True}},
            {"name": "w", "ofTomorrow": {"a": [1]}},
        ],
        "networkPolicy": {"extraEgress": [{"newer": {}, "to": [{"ipBlock": {"cidr": "10.0.0.0/8", "newer": 1}}]}]},
    }

    here.store(json.dumps(agent(**newer)))

    spec = here.get("agentdeployment")["spec"]
    assert spec["affinity"] == newer["affinity"]
    assert spec["securityContext"] == newer["securityContext"]
    assert spec["podSecurityContext"]["sysctls"] == newer["podSecurityContext"]["sysctls"]
    assert spec["sidecars"] == newer["sidecars"]
    assert spec["extraVolumes"] == newer["extraVolumes"]
    assert spec["networkPolicy"]["extraEgress"] == newer["networkPolicy"]["extraEgress"]


def test_a_null_is_a_field_that_is_not_set(control_plane: Cluster, namespace: str) -> None:
    install_definition(control_plane)
    here = Namespace(control_plane, namespace)
    written: dict[str, Any] = {
        "affinity": {"nodeAffinity": None},
        "sidecars": [{**BESIDE, "env": None, "livenessProbe": None, "ports": [{"containerPort": 1, "hostIP": None}]}],
        "extraVolumes": [{"name": "v", "emptyDir": None}],
    }

    here.store(json.dumps(agent(**written)))

    spec = here.get("agentdeployment")["spec"]
    assert spec["sidecars"] == [{**BESIDE, "ports": [{"containerPort": 1}]}]
    assert spec["extraVolumes"] == [{"name": "v"}]
