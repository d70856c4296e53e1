"""Which fields of an object are foreign by its managed fields, and how they become ours."""

from typing import Any

import pytest

from agent_operator.api.agent import AgentDeployment
from agent_operator.api.spec import AgentSpec
from agent_operator.controller.reconcile.disputes import Disputes
from agent_operator.controller.reconcile.plan import make_plan, with_owner
from agent_operator.controller.status.drift import MOST_REMOVALS, Left, judge_drift
from agent_operator.kube.drift import Foreign, foreign, named, needs_applying, pruned, reclaimed, shares
from agent_operator.kube.owner import Owner
from agent_operator.kube.resources import Key
from agent_operator.manifests import desired

Document = dict[str, Any]
OWNER = Owner("hello", "uid-of-hello")
OURS = {"manager": "portside-operator", "operation": "Apply", "apiVersion": "apps/v1", "fieldsV1": {"f:spec": {}}}
AGENT = 'k:{"name":"agent"}'


def deployment() -> Document:
    documents = desired(AgentDeployment("hello", "prod", AgentSpec.model_validate({"agent": {"provider": "echo"}})))
    return with_owner(next(each for each in documents if each["kind"] == "Deployment"), OWNER)


def share(fields: Document, manager: str = "kubectl-edit", operation: str = "Update", **more: Any) -> Document:
    named = {"manager": manager, "operation": operation, "apiVersion": "apps/v1", "fieldsType": "FieldsV1"}
    return {**named, "fieldsV1": fields, **more}


def in_container(fields: Document) -> Document:
    return {"f:spec": {"f:template": {"f:spec": {"f:containers": {AGENT: {".": {}, "f:name": {}, **fields}}}}}}


def variable(name: str) -> Document:
    return in_container({"f:env": {".": {}, f'k:{{"name":"{name}"}}': {".": {}, "f:name": {}, "f:value": {}}}})


def in_template(fields: Document) -> Document:
    return {"f:spec": {"f:template": {"f:metadata": {"f:annotations": {f"f:{name}": {} for name in fields}}}}}


def live(*entries: Document) -> Document:
    """Return the Deployment as it was applied, with these managed fields."""
    document = deployment()
    return {**document, "metadata": {**document["metadata"], "managedFields": [OURS, *entries]}}


def ways(*entries: Document) -> list[str]:
    return list(map(str, foreign(deployment(), live(*entries))))


@pytest.mark.parametrize(
    ("fields", "way"),
    [
        (variable("A"), "spec.template.spec.containers[name=agent].env[name=A]"),
        (in_container({"f:command": {}}), "spec.template.spec.containers[name=agent].command"),
        ({"f:spec": {"f:minReadySeconds": {}}}, "spec.minReadySeconds"),
        ({"f:spec": {"f:template": {"f:spec": {"f:hostNetwork": {}}}}}, "spec.template.spec.hostNetwork"),
        (in_template({"vault/inject": {}}), "spec.template.metadata.annotations.vault/inject"),
    ],
)
def test_an_undesired_field_of_another_manager_is_foreign(fields: Document, way: str) -> None:
    assert ways(share(fields)) == [f"{way} (field manager kubectl-edit)"]
    assert needs_applying(deployment(), live(share(fields)))
    kept = shares("Deployment", live(share(fields)))
    assert foreign(deployment(), live(*kept[1:])) == foreign(deployment(), live(share(fields)))


@pytest.mark.parametrize(
    "entry",
    [
        share(in_container({"f:image": {}})),
        share({"f:metadata": {"f:labels": {"f:team": {}}}}),
        share({"f:spec": {"f:replicas": {}}}),
        share({"f:spec": {"f:minReadySeconds": {}}}, "portside-operator-handover", "Apply"),
        share({"f:spec": {"f:minReadySeconds": {}}}, subresource="scale"),
        share({"f:status": {"f:replicas": {}}}, subresource="status"),
        share(in_template({"kubectl.kubernetes.io/restartedAt": {}})),
        share(in_template({"reloader.stakater.com/last-reloaded-from": {}})),
        share(variable("STAKATER_PROMPTS_SECRET")),
    ],
)
def test_desired_and_allowed_fields_are_not_foreign(entry: Document) -> None:
    assert ways(entry) == []
    assert not needs_applying(deployment(), live(entry))


def test_list_members_without_a_manager_are_detected() -> None:
    found = live()
    spec = found["spec"]["template"]["spec"]
    spec["containers"] = [*spec["containers"], {"name": "injected", "image": "a"}]
    spec["initContainers"] = [{"name": "first", "image": "a"}]
    spec["dnsPolicy"] = "ClusterFirst"

    assert list(map(str, foreign(deployment(), found))) == [
        "spec.template.spec.containers[name=injected]",
        "spec.template.spec.initContainers[name=first]",
    ]


def test_without_managed_fields_of_ours_the_object_is_applied_again() -> None:
    found = live()
    found["metadata"]["managedFields"] = []

    assert needs_applying(deployment(), found)
    found["metadata"]["managedFields"] = shares("Deployment", live())
    assert not needs_applying(deployment(), found)


def test_foreign_fields_become_ours_and_the_rest_keeps_its_manager() -> None:
    theirs = {**variable("A"), "f:metadata": {"f:labels": {"f:team": {}}}}
    restart = share(in_template({"kubectl.kubernetes.io/restartedAt": {}}), "kubectl-rollout")
    status = share({"f:status": {}}, "kube-controller-manager", subresource="status")

    *rest, ours = reclaimed([OURS, share(theirs), restart, status], deployment())

    assert (ours["manager"], ours["operation"]) == ("portside-operator", "Apply")
    taken = ours["fieldsV1"]["f:spec"]["f:template"]["f:spec"]["f:containers"][AGENT]
    assert taken == {"f:env": variable("A")["f:spec"]["f:template"]["f:spec"]["f:containers"][AGENT]["f:env"]}
    assert [each["manager"] for each in rest] == ["kubectl-edit", "kubectl-rollout", "kube-controller-manager"]
    assert rest[0]["fieldsV1"]["f:metadata"] == theirs["f:metadata"]
    assert "f:env" not in str(rest[0])
    assert rest[1:] == [restart, status]


def test_nothing_is_written_where_nothing_is_foreign() -> None:
    entries = [OURS, share({"f:metadata": {"f:labels": {"f:team": {}}}})]
    assert reclaimed(entries, deployment()) == entries
    assert make_plan(OWNER, [], {}).applies == []


def test_fields_of_another_version_are_kept_and_reported() -> None:
    other = share({"f:spec": {"f:rollbackTo": {}}}, apiVersion="apps/v1beta1")
    assert reclaimed([OURS, other], deployment()) == [OURS, other]
    assert ways(other) == ["spec.rollbackTo (field manager kubectl-edit)"]


def test_a_difference_is_shown_without_removed_fields() -> None:
    document = deployment()
    containers = document["spec"]["template"]["spec"]["containers"]
    containers[0]["env"] = [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]
    document["spec"]["minReadySeconds"] = 30
    paths = [entry.path for entry in foreign(deployment(), live(share(variable("A"))))]

    found = pruned(document, [*paths, ("spec", "minReadySeconds"), ("spec", "gone", "long ago")])

    assert found["spec"]["template"]["spec"]["containers"][0]["env"] == [{"name": "B", "value": "2"}]
    assert "minReadySeconds" not in found["spec"]


def test_a_message_about_many_entries_is_short() -> None:
    many = [Foreign(("spec", f"field{number}" * 100), "m" * 1000) for number in range(100)]
    assert len(named(many)) < 3000
    assert named(many).endswith("and 95 more")


def test_a_dispute_is_lost_after_some_removals_of_the_same_field() -> None:
    disputes, key, name = Disputes(), Key("team", "a"), ("Deployment", "a")
    one, other = [Foreign(("spec", "a"), "m")], [Foreign(("spec", "b"), "m")]
    for _ in range(MOST_REMOVALS):
        assert not disputes.is_lost(key, name, one)
        disputes.removed(key, name, one)
    assert disputes.is_lost(key, name, one)
    assert not disputes.is_lost(key, name, other)
    disputes.forget(key)
    assert not disputes.is_lost(key, name, one)


def test_remaining_fields_are_a_condition() -> None:
    assert judge_drift([]) is None
    left = Left("Deployment", "a", "ChangedAgain", (Foreign(("spec", "minReadySeconds"), "argo"),))
    found = judge_drift([left])
    assert found is not None
    assert (found.status, found.reason) == ("True", "ChangedAgain")
    assert "spec.minReadySeconds (field manager argo)" in found.message
