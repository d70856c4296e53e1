"""Compatibility with every release: fields and values stay, valid specs stay valid, names and selectors are unchanged.

An intended break is listed in INTENDED, with its reason, and in the changelog.
"""

import copy
import json
import tarfile
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from agent_operator.api.crd import crd
from support.manifests import documents
from support.operator import install_definition
from testbed import paths
from testbed.cluster import Cluster

Schema = dict[str, Any]
RELEASES = sorted(path.name for path in (paths.REPOSITORY / "releases").iterdir() if path.is_dir())
HELM = paths.REPOSITORY / "helm"
SAMPLES = sorted((paths.REPOSITORY / "manifests" / "samples").glob("*.yaml"))
# A breaking change, as `breaks` words it, and the reason for it.
INTENDED: dict[str, str] = {}
# Constraints on a value: a change of one of these may reject what was accepted before.
NARROWING = ("type", "pattern", "minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems", "format")


def breaks(old: Schema, new: Schema, path: str = "") -> Iterator[str]:
    """Yield what the schema `old` promised and `new` breaks, one sentence each."""
    yield from _narrower(old, new, path)
    for name in sorted(set(new.get("required", [])) - set(old.get("required", []))):
        yield f"{path}.{name} became required"
    if "default" in old and old["default"] != new.get("default") and "properties" not in old:
        yield f"{path}: the default was {old['default']!r} and is {new.get('default')!r}"
    for name, child in old.get("properties", {}).items():
        if name in new.get("properties", {}):
            yield from breaks(child, new["properties"][name], f"{path}.{name}".lstrip("."))
        else:
            yield f"{path}.{name} is gone".lstrip(".")
    for name in ("items", "additionalProperties"):
        if isinstance(old.get(name), dict) and isinstance(new.get(name), dict):
            yield from breaks(old[name], new[name], f"{path}[]")


def _narrower(old: Schema, new: Schema, path: str) -> Iterator[str]:
    """Yield which values that `old` accepted `new` rejects, without regard to their fields."""
    for key in NARROWING:
        if new.get(key, old.get(key)) != old.get(key) and not _wider(key, old, new):
            yield f"{path or 'the spec'}: {key} was {old.get(key)!r} and is {new.get(key)!r}"
    taken: list[Any] = new.get("enum") or old.get("enum") or []
    for value in [each for each in old.get("enum", []) if each not in taken]:
        yield f"{path}: {value!r} is no longer taken"
    if "enum" in new and "enum" not in old:
        yield f"{path}: only some values are taken"


def _wider(key: str, old: Schema, new: Schema) -> bool:
    """Return whether a changed bound accepts all that it accepted. An enum implies its type even when that is unset."""
    if key == "type":
        return key not in old and "enum" in old
    if key.startswith("min"):
        return key in old and bool(new[key] <= old[key])
    return key.startswith("max") and key in old and bool(new[key] >= old[key])


def _old(chart: str, release: str, file: str) -> str:
    """Return the text of a file in a released chart."""
    with tarfile.open(paths.REPOSITORY / "releases" / release / f"{chart}-{release}.tgz") as package:
        member = package.extractfile(f"{chart}/{file}")
        assert member is not None
        return member.read().decode()


def _old_definition(release: str) -> Schema:
    definition: Schema = yaml.safe_load(_old("agent-operator", release, "files/agentdeployments.yaml"))
    return definition


def _schema(definition: Schema) -> Schema:
    [version] = [each for each in definition["spec"]["versions"] if each["name"] == "v1alpha1"]
    schema: Schema = version["schema"]["openAPIV3Schema"]
    return schema


@pytest.mark.parametrize("release", RELEASES)
def test_the_definition_accepts_all_that_it_accepted(release: str) -> None:
    assert [each for each in breaks(_schema(_old_definition(release)), _schema(crd())) if each not in INTENDED] == []


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("chart", ["agent", "agent-operator"])
def test_a_chart_accepts_all_the_values_that_it_accepted(chart: str, release: str) -> None:
    old = json.loads(_old(chart, release, "values.schema.json"))
    new = json.loads((HELM / chart / "values.schema.json").read_text())
    assert [each for each in breaks(old, new) if each not in INTENDED] == []


def test_each_kind_of_break_is_found() -> None:
    old = _schema(crd())
    spec = ("properties", "spec", "properties")

    def broken(change: Any) -> list[str]:
        new = copy.deepcopy(old)
        change(new[spec[0]][spec[1]][spec[2]])
        return list(breaks(old, new))

    assert broken(lambda spec: None) == []
    assert broken(lambda spec: spec.pop("replicas")) == ["spec.replicas is gone"]
    assert "maximum" in broken(lambda spec: spec["replicas"].update(maximum=3))[0]
    assert "type" in broken(lambda spec: spec["replicas"].update(type="string"))[0]
    assert "default" in broken(lambda spec: spec["replicas"].update(default=2))[0]
    assert "echo" in "".join(broken(lambda spec: spec["agent"]["properties"]["provider"].update(enum=["anthropic"])))
    assert "required" in broken(lambda spec: spec["agent"].update(required=["model"]))[0]
    assert broken(lambda spec: spec["replicas"].update(maximum=10**6)) == []


@pytest.mark.parametrize("release", RELEASES)
def test_agents_of_a_release_are_valid_and_unchanged_under_the_present_definition(
    control_plane: Cluster, namespace: str, release: str
) -> None:
    text = yaml.safe_dump(_old_definition(release))
    control_plane.kubectl("apply", "--server-side", "--force-conflicts", "-f-", stdin=text)
    control_plane.await_definition("agentdeployments.portside.dev")
    try:
        for sample in SAMPLES:
            agents = [each for each in documents(sample.read_text()) if each["kind"] == "AgentDeployment"]
            # Fields of a sample that the release did not have are dropped, as they would have been then.
            create = ["create", "--validate=ignore", "-n", namespace, "-f-"]
            control_plane.kubectl(*create, stdin=yaml.safe_dump_all(agents))
        before = _specs(control_plane, namespace)
        assert len(before) >= len(SAMPLES)
    finally:
        install_definition(control_plane)
    assert _specs(control_plane, namespace) == before
    # Written back unchanged, each passes every present rule.
    everything = control_plane.kubectl("get", "agentdeployments", "-n", namespace, "-oyaml")
    control_plane.kubectl("replace", "--validate=strict", "-f-", stdin=everything)


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("chart", ["agent", "agent-operator"])
def test_names_and_selectors_are_unchanged(control_plane: Cluster, chart: str, release: str) -> None:
    package = str(paths.REPOSITORY / "releases" / release / f"{chart}-{release}.tgz")
    values = ["--set", "agent.provider=echo,redis.url=redis://r:6379,worker.enabled=true"] if chart == "agent" else []
    old, new = (_fixed(control_plane.helm("template", "x", each, *values)) for each in (package, str(HELM / chart)))
    assert old.items() <= new.items()


def _specs(cluster: Cluster, namespace: str) -> dict[str, Any]:
    found = cluster.get("agentdeployments", "-n", namespace)["items"]
    return {each["metadata"]["name"]: each["spec"] for each in found}


def _fixed(text: str) -> dict[str, Any]:
    """Return what cannot change in an upgrade: the objects' names, and the selectors of those that have one."""
    objects = documents(text)
    return {
        f"{each['kind']} {each['metadata']['name']}": each.get("spec", {}).get("selector")
        for each in objects
        if "helm.sh/hook" not in each["metadata"].get("annotations", {})
    }
