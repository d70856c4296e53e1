"""Objects that are not the agent's: which of them it may adopt, when, and what the user reads."""

from typing import Any

import pytest

from agent_operator.controller.reconcile.conflicts import described
from agent_operator.controller.reconcile.plan import make_plan
from agent_operator.controller.reconcile.steps import Plan
from unit.operator.test_plan import OWNER, applied, objects, steps

Document = dict[str, Any]
CONSENT = "portside.dev/adoptable-by"


def left(**consents: str | None) -> dict[tuple[str, str], Document]:
    """Return the objects of a deleted agent, without owners; `consents` by kind names the agent that may adopt them."""
    observed = applied(objects())
    for (kind, _), found in observed.items():
        found["metadata"]["ownerReferences"] = []
        to = consents.get(kind, "hello")
        found["metadata"]["annotations"] |= {CONSENT: to} if to is not None else {}
    return observed


def sentences(plan: Plan, *, adopt: bool) -> str:
    return "; ".join(described(plan.conflicts, "prod", "hello", adopt=adopt))


def test_orphans_are_adopted_if_both_sides_agree() -> None:
    observed = left()

    plan = make_plan(OWNER, objects(), observed, adopt=True)

    assert plan.conflicts == []
    assert {step.taken_over["kind"] for step in plan.applies if step.taken_over} == {kind for kind, _ in observed}


def test_a_request_without_consent_adopts_nothing() -> None:
    plan = make_plan(OWNER, objects(), left(**dict.fromkeys(("Service", "Deployment"))), adopt=True)

    assert steps(plan) == []
    assert "kubectl annotate --namespace prod service/hello deployment/hello portside.dev/adoptable-by=hello" in (
        sentences(plan, adopt=True)
    )


def test_consent_without_a_request_adopts_nothing_and_the_message_has_the_command() -> None:
    plan = make_plan(OWNER, objects(), left())

    assert steps(plan) == []
    assert "kubectl annotate --namespace prod agentdeployment/hello portside.dev/adopt=true" in (
        sentences(plan, adopt=False)
    )


@pytest.mark.parametrize("to", ["other", "Hello", "hello ", "true", "*", "hello,other"])
def test_consent_to_another_agent_does_not_count(to: str) -> None:
    plan = make_plan(OWNER, objects(), left(Service=to), adopt=True)

    assert steps(plan) == []
    said = sentences(plan, adopt=True)
    assert f"Service hello may be taken over only by AgentDeployment {to}, according" in said
    assert "--overwrite service/hello portside.dev/adoptable-by=hello" in said


@pytest.mark.parametrize("consent", ["hello", None])
def test_consent_does_not_make_an_unrelated_object_adoptable(consent: str | None) -> None:
    observed = left(Service=consent)
    observed["Service", "hello"]["metadata"]["labels"] = {}

    plan = make_plan(OWNER, objects(), observed, adopt=True)

    assert steps(plan) == []
    assert "Service hello exists and is not managed by this AgentDeployment" in sentences(plan, adopt=True)


def test_an_object_with_a_controller_is_not_adopted_even_with_consent() -> None:
    observed = left()
    observed["Service", "hello"]["metadata"]["ownerReferences"] = [{"kind": "Other", "uid": "u", "controller": True}]

    assert steps(make_plan(OWNER, objects(), observed, adopt=True)) == []


@pytest.mark.parametrize("owners", [[], [{"kind": "AgentDeployment", "name": "hello", "uid": "other"}]])
def test_an_undesired_object_is_deleted_only_by_its_owner(owners: list[Document]) -> None:
    wanted = objects()
    observed = applied(objects(ingress={"enabled": True}))
    observed["Ingress", "hello"]["metadata"]["ownerReferences"] = owners
    observed["Ingress", "hello"]["metadata"]["annotations"] |= {CONSENT: "hello"}

    assert make_plan(OWNER, wanted, observed, adopt=True).deletes == []


def test_a_deletion_has_the_uid_and_version_that_were_observed() -> None:
    observed = applied(objects(ingress={"enabled": True}))

    (delete,) = make_plan(OWNER, objects(), observed).deletes

    assert (delete.uid, delete.version) == ("uid-of-Ingress", "1")
