"""The decision of what to do, from the desired and the observed objects."""

import copy
from typing import Any

import pytest
from hypothesis import given, settings

from agent_operator.api.agent import AgentDeployment
from agent_operator.api.spec import AgentSpec
from agent_operator.controller.reconcile.conflicts import described
from agent_operator.controller.reconcile.disputes import Conceded
from agent_operator.controller.reconcile.plan import lasting, make_plan, with_owner
from agent_operator.controller.reconcile.steps import Plan
from agent_operator.kube.owner import Owner
from agent_operator.manifests import desired
from unit.operator.strategies import specs

Document = dict[str, Any]
Observed = dict[tuple[str, str], Document]

OWNER = Owner("hello", "uid-of-hello")


def objects(**spec: Any) -> list[Document]:
    """Return the desired objects of an echo agent."""
    return desired(AgentDeployment("hello", "prod", AgentSpec.model_validate({"agent": {"provider": "echo"}, **spec})))


def applied(documents: list[Document], owner: Owner = OWNER) -> Observed:
    """Return the objects as the API server has them after the apply, with the defaults that it adds."""
    observed: Observed = {}
    for document in documents:
        live = copy.deepcopy(with_owner(document, owner))
        live["metadata"] |= {"uid": f"uid-of-{live['kind']}", "resourceVersion": "1"}
        live["status"] = {}
        observed[live["kind"], live["metadata"]["name"]] = live
    return observed


def steps(plan: Plan) -> list[str]:
    """Return the plan in short form."""
    deletes = [f"delete {step.kind}" for step in plan.deletes]
    return deletes + [f"{step.operation} {step.kind}" for step in plan.applies]


@given(specs())
@settings(max_examples=50, deadline=None)
def test_applied_objects_need_no_further_step(spec: Document) -> None:
    documents = desired(AgentDeployment("hello", "prod", AgentSpec.model_validate(spec)))

    assert make_plan(OWNER, documents, applied(documents)) == Plan()


def test_a_quantity_that_only_the_api_server_rejects_is_not_a_change() -> None:
    amounts: Document = {"requests": {"cpu": {}}, "limits": {"memory": ["1Gi"]}}
    documents = objects(sidecars=[{"name": "beside", "image": "busybox", "resources": amounts}])

    assert make_plan(OWNER, documents, applied(documents)) == Plan()


def test_missing_objects_are_created_in_dependency_order() -> None:
    plan = make_plan(OWNER, objects(autoscaling={"enabled": True}), {})

    assert steps(plan) == [
        "create ConfigMap",
        "create ServiceAccount",
        "create Service",
        "create NetworkPolicy",
        "create Deployment",
        "create HorizontalPodAutoscaler",
    ]


def test_only_what_changed_in_the_spec_is_updated() -> None:
    plan = make_plan(OWNER, objects(service={"port": 8080}), applied(objects()))

    assert steps(plan) == ["update Service"]


def test_a_field_no_longer_desired_is_detected_though_all_desired_fields_are_present() -> None:
    plan = make_plan(OWNER, objects(), applied(objects(nodeSelector={"disk": "fast"})))

    assert steps(plan) == ["update Deployment"]


def test_an_edited_object_is_updated() -> None:
    observed = applied(objects())
    observed["Deployment", "hello"]["spec"]["replicas"] = 7
    del observed["Service", "hello"]["metadata"]["labels"]["app.kubernetes.io/part-of"]

    assert steps(make_plan(OWNER, objects(), observed)) == ["update Service", "update Deployment"]


def test_foreign_annotations_and_defaults_are_kept() -> None:
    observed = applied(objects())
    deployment = observed["Deployment", "hello"]
    deployment["metadata"]["annotations"]["deployment.kubernetes.io/revision"] = "1"
    deployment["spec"]["template"]["spec"]["dnsPolicy"] = "ClusterFirst"

    assert steps(make_plan(OWNER, objects(), observed)) == []


def test_a_foreign_list_member_is_removed() -> None:
    observed = applied(objects())
    observed["Deployment", "hello"]["spec"]["template"]["spec"]["containers"].append({"name": "mesh"})

    [step] = make_plan(OWNER, objects(), observed).applies
    assert [str(each) for each in step.foreign] == ["spec.template.spec.containers[name=mesh]"]


def test_replicas_are_not_ours_while_an_autoscaler_sets_them() -> None:
    observed = applied(objects(autoscaling={"enabled": True}))
    observed["Deployment", "hello"]["spec"]["replicas"] = 7

    assert steps(make_plan(OWNER, objects(autoscaling={"enabled": True}), observed)) == []


def test_replicas_are_released_before_an_autoscaler_is_created() -> None:
    plan = make_plan(OWNER, objects(autoscaling={"enabled": True}), applied(objects(replicas=3)))

    (update,) = (step for step in plan.applies if step.kind == "Deployment")
    assert update.keep_replicas == 3


def test_undesired_objects_are_deleted_before_anything_is_applied() -> None:
    plan = make_plan(OWNER, objects(), applied(objects(autoscaling={"enabled": True})))

    assert steps(plan) == ["delete HorizontalPodAutoscaler", "update Deployment"]
    assert plan.deletes[0].uid == "uid-of-HorizontalPodAutoscaler"


def test_only_our_own_objects_are_deleted() -> None:
    observed = applied(objects(autoscaling={"enabled": True}), Owner("hello", "another-uid"))

    assert make_plan(OWNER, [], observed) == Plan()


@pytest.mark.parametrize(
    "taken",
    [
        {"ownerReferences": [], "labels": {}},
        {"ownerReferences": [{"kind": "Deployment", "name": "x", "uid": "y", "controller": True}]},
    ],
)
def test_an_object_that_is_not_ours_is_a_conflict_and_is_kept(taken: Document) -> None:
    observed = applied(objects())
    observed["Service", "hello"]["metadata"] |= taken

    plan = make_plan(OWNER, objects(service={"port": 8080}), observed)

    assert steps(plan) == []
    assert described(plan.conflicts, "prod", "hello", adopt=False) == [
        "Service hello exists and is not managed by this AgentDeployment: rename one of the two, or delete it"
    ]


def test_a_field_that_is_changed_back_each_time_is_left_until_something_else_changes() -> None:
    observed = applied(objects())
    observed["Service", "hello"]["spec"]["type"] = "NodePort"
    (wanted,) = (with_owner(each, OWNER) for each in objects() if each["kind"] == "Service")
    conceded = {("Service", "hello"): Conceded(lasting(observed["Service", "hello"]), "ChangedByAdmission", wanted)}

    assert steps(make_plan(OWNER, objects(), observed)) == ["update Service"]
    assert make_plan(OWNER, objects(), observed, conceded=conceded) == Plan()
    another = make_plan(OWNER, objects(service={"port": 8080}), observed, conceded=conceded)
    assert steps(another) == ["update Service"]
    observed["Service", "hello"]["spec"]["type"] = "LoadBalancer"
    assert steps(make_plan(OWNER, objects(), observed, conceded=conceded)) == ["update Service"]


def test_an_object_of_a_previous_agent_of_the_same_name_blocks_until_it_is_gone() -> None:
    plan = make_plan(OWNER, objects(), applied(objects(), Owner("hello", "uid-of-the-former")))

    assert steps(plan) == []
    assert {conflict.why for conflict in plan.conflicts} == {"former"}


@pytest.mark.parametrize("kind", ["ConfigMap", "Secret"])
def test_pods_do_not_use_settings_or_secrets_that_are_not_ours(kind: str) -> None:
    wanted = objects(apiKey={"value": "sk-test"})
    theirs = applied(wanted)[kind, "hello"]
    theirs["metadata"]["ownerReferences"] = []

    plan = make_plan(OWNER, wanted, {(kind, "hello"): theirs})

    assert "create Deployment" not in steps(plan)
    assert "create Service" in steps(plan)


def test_an_object_that_is_being_deleted_blocks_until_it_is_gone() -> None:
    observed = applied(objects())
    observed["Service", "hello"]["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"

    assert steps(make_plan(OWNER, objects(service={"port": 8080}), observed)) == []
