"""From evidence to a report: each step of the chain in order, so that the first problem is the cause. Pure."""

from collections.abc import Iterator

from agent_operator.api.agent import GROUP, KIND, PLURAL, AgentDeployment
from agent_operator.api.reasons import REASONS
from agent_operator.api.validation import InvalidAgentError, parse
from agent_operator.classes.choice import INVALID_SPEC, OF_CLASS, Refusal
from agent_operator.controller.reconcile.adoption import wants_adoption
from agent_operator.controller.reconcile.conflicts import described
from agent_operator.controller.reconcile.plan import make_plan
from agent_operator.controller.status.drift import DRIFTED
from agent_operator.controller.status.status import PODS_REFUSED, POLICY_REFUSED
from agent_operator.kube.conditions import condition
from agent_operator.kube.owner import Owner
from agent_operator.kube.resources import BY_KIND
from agent_operator.manifests import desired
from agent_operator.manifests.document import Document
from agent_operator.tools.doctor.evidence import Evidence
from agent_operator.tools.doctor.pods import down, pod_findings
from agent_operator.tools.doctor.report import Finding, Report
from agent_operator.tools.doctor.runtime import notes
from agent_operator.tools.doctor.scaling import scaling_findings
from agent_operator.tools.doctor.service import service_findings
from agent_operator.tools.doctor.steps import steps_of
from agent_operator.tools.doctor.tools import tool_findings

# Reasons in the agent's conditions that only the operator knows: the API server's responses to its applies.
_APPLYING = {
    "PolicyRefused",
    *OF_CLASS,
    "NameConflict",
    "QuotaExceeded",
    "ApplyRefused",
    "ApplyFailing",
    "KindNotInstalled",
}


def judge(evidence: Evidence) -> Report:
    """Return the report on an agent from this evidence."""
    findings = list(_findings(evidence))
    ready = is_ready(evidence)
    if not ready and all(each.note for each in findings):
        findings.insert(0, _as_in_the_status(evidence))
    # The first finding of each reason is the closest to the cause; notes come last.
    first = list({each.reason: each for each in reversed(findings)}.values())[::-1]
    ordered = [*(each for each in first if not each.note), *(each for each in first if each.note)]
    ordered = [each for each in ordered if not _is_consequence(each, ordered, ready)]
    return Report(evidence.namespace, evidence.name, ready, steps_of(evidence, ordered), ordered, evidence.unseen)


# Reasons that result from an earlier finding.
_CONSEQUENCES = {"ObjectsMissing", "RolloutStuck", "PodsNotReady", "Starting", "MountFailed"}
# An autoscaler has no values to measure while no pod is ready.
_CONSEQUENCES_OF_NO_PODS = {"NoMetrics", "ScalingDisabled"}


def _is_consequence(finding: Finding, ordered: list[Finding], ready: bool) -> bool:
    if finding is ordered[0]:
        return False
    if not ready and finding.reason in _CONSEQUENCES_OF_NO_PODS:
        return True
    return finding.reason in _CONSEQUENCES and not ordered[0].note


def undefined() -> Finding:
    """Return the finding for a cluster without the definition of AgentDeployments."""
    return Finding(
        "definition",
        "DefinitionMissing",
        f"The cluster does not serve {PLURAL}.{GROUP}",
        "install the definition: agent-operator crd | kubectl apply --server-side -f -",
    )


def is_ready(evidence: Evidence) -> bool:
    """Return whether the agent serves its current spec, by its status, unless its Deployments contradict that."""
    agent = evidence.agent or {}
    generation, status = agent.get("metadata", {}).get("generation"), agent.get("status") or {}
    ready = condition(status, "Ready")
    if ready.get("status") != "True" or generation != ready.get("observedGeneration", generation):
        return False
    if "deletionTimestamp" in agent["metadata"]:
        return False
    deployments = [each for _, each in evidence.deployments() if each is not None]
    return all(_is_available(each) for each in deployments)


def _is_available(deployment: Document) -> bool:
    """Return whether any pod is available, if any is desired. The status judges whether there are too few."""
    wanted = deployment["spec"].get("replicas", 1)
    return bool(wanted == 0 or deployment.get("status", {}).get("availableReplicas", 0) > 0)


def _findings(evidence: Evidence) -> Iterator[Finding]:
    yield from _of_operator(evidence)
    yield from _of_spec(evidence)
    yield from _of_objects(evidence)
    for component, deployment in evidence.deployments():
        yield from pod_findings(evidence, component, deployment)
    yield from service_findings(evidence)
    yield from scaling_findings(evidence)
    yield from tool_findings(evidence)
    yield from down(evidence)
    yield from notes(evidence)
    yield from _drifted(evidence)


def _is_current(evidence: Evidence) -> bool:
    agent = evidence.agent or {}
    status = agent.get("status") or {}
    return bool(status.get("observedGeneration") == agent.get("metadata", {}).get("generation"))


def _of_operator(evidence: Evidence) -> Iterator[Finding]:
    current = _is_current(evidence)
    alive = [lease for lease in evidence.leases if lease.alive]
    outdated = "The agent's status is missing, or is for an older spec"
    install = "install or start it: helm upgrade --install agent-operator helm/agent-operator -n portside-system"
    if alive and not current:
        where = f"kubectl logs -n {alive[0].namespace} deployment/agent-operator"
        yield Finding(
            "operator",
            "NotReconciled",
            f"{outdated}, although an operator is running: it has yet to reconcile the agent, or serves other "
            "namespaces or labels",
            f"wait a few seconds, then check its log: {where}",
        )
    elif evidence.leases and not alive:
        lease = min(evidence.leases, key=lambda each: each.age)
        renewed = f"was last renewed {lease.age:.0f} s ago" if lease.age < float("inf") else "was never renewed"
        yield Finding(
            "operator",
            "OperatorStopped",
            f"No operator is running: its Lease {lease.namespace}/{lease.name} {renewed}",
            install,
            note=current,
        )
    elif not alive and "leases" in evidence.unseen and not current:
        message = f"{outdated}: the operator may not be running, or may not serve this agent"
        yield Finding("operator", "NotReconciled", message, install)
    elif not alive and "leases" not in evidence.unseen and current:
        message = "No operator holds a Lease: none is running, or one is running without leader election"
        yield Finding("operator", "OperatorNotSeen", message, install, note=True)
    elif not alive and "leases" not in evidence.unseen:
        yield Finding("operator", "OperatorMissing", f"{outdated}, and no operator holds a Lease", install)


def _of_spec(evidence: Evidence) -> Iterator[Finding]:
    metadata = (evidence.agent or {}).get("metadata", {})
    if "deletionTimestamp" in metadata:
        finalizers = ", ".join(metadata.get("finalizers") or [])
        state = f"waits for its finalizers: {finalizers}" if finalizers else "will be gone in a moment"
        yield Finding("spec", "BeingDeleted", f"The {KIND} is being deleted, and {state}", "apply it again")
    try:
        parse(evidence.agent or {})
    except InvalidAgentError as error:
        yield Finding(
            "spec",
            "InvalidSpec",
            f"The spec is invalid, and the operator does not apply it: {error}",
            f"correct it: kubectl edit agentdeployment/{evidence.name} -n {evidence.namespace}",
        )


def _of_objects(evidence: Evidence) -> Iterator[Finding]:
    agent = _valid(evidence)
    if agent is None:
        return
    refused = list(_refused(evidence))
    yield from refused
    if any(finding.reason in {POLICY_REFUSED, *OF_CLASS} for finding in refused):
        return
    if evidence.class_refusal is not None:
        yield from _refused_by_class(evidence, evidence.class_refusal)
        return
    wanted = desired(agent)
    for kind in sorted({each["kind"] for each in wanted} & evidence.unserved):
        message = f"The cluster does not serve {kind}"
        yield Finding("objects", "KindNotInstalled", message, REASONS["KindNotInstalled"].advice)
    adopt = wants_adoption(evidence.agent or {})
    plan = make_plan(Owner(agent.name, agent.uid), wanted, evidence.objects, adopt=adopt)
    for text in described(plan.conflicts, agent.namespace, agent.name, adopt=adopt):
        yield Finding("objects", "NameConflict", text, REASONS["NameConflict"].advice)
    missing = _names(evidence, [each.document for each in plan.applies if each.operation == "create"])
    if missing:
        yield Finding(
            "objects",
            "ObjectsMissing",
            f"{missing}: not created yet",
            "check that the operator is running, and check its log",
        )
    # The content of Secrets was not read.
    updates = [each.document for each in plan.applies if each.operation == "update" and each.kind != "Secret"]
    edited = _names(evidence, updates)
    if edited:
        remedy = f"see the differences: kubectl agent diff {evidence.name} -n {evidence.namespace}"
        yield Finding("objects", "ObjectsDiffer", f"{edited}: different from the spec", remedy, note=True)
    for reference in evidence.missing:
        if (reference.kind, reference.name) not in {(each["kind"], each["metadata"]["name"]) for each in wanted}:
            key = f" --from-literal={reference.key}=…" if reference.key else ""
            sort = "secret generic" if reference.kind == "Secret" else "configmap"
            yield Finding(
                "objects",
                f"{reference.kind}Missing",
                f"{reference.kind} {reference.name} does not exist, and pods cannot start without it ({reference.use})",
                f"kubectl create {sort} {reference.name} -n {evidence.namespace}{key}",
            )


def _refused(evidence: Evidence) -> Iterator[Finding]:
    """Yield the refusals that the operator recorded in the agent's conditions."""
    status = (evidence.agent or {}).get("status") or {}
    for name in ("Degraded", "Ready"):
        state = condition(status, name)
        reason = state.get("reason", "")
        refused = reason in _APPLYING and not str(state.get("message", "")).startswith(PODS_REFUSED)
        if refused and state.get("status") == ("True" if name == "Degraded" else "False") and _is_current(evidence):
            yield Finding("objects", reason, str(state["message"]), REASONS[reason].advice)


def _refused_by_class(evidence: Evidence, refusal: Refusal) -> Iterator[Finding]:
    """Yield that the spec is not valid with its class, if the operator found so too: its classes may be others."""
    ready = condition((evidence.agent or {}).get("status") or {}, "Ready")
    if refusal.reason == ready.get("reason") == INVALID_SPEC:
        yield Finding("objects", INVALID_SPEC, str(ready["message"]), REASONS[INVALID_SPEC].advice)


def _drifted(evidence: Evidence) -> Iterator[Finding]:
    """Yield the changes by other clients that the operator leaves in place."""
    state = condition((evidence.agent or {}).get("status") or {}, DRIFTED)
    if state.get("status") == "True":
        name, namespace = evidence.name, evidence.namespace
        remedy = "stop other clients from changing it, or accept the changes; to see all of them: "
        remedy += f"kubectl agent diff {name} -n {namespace}"
        yield Finding("objects", DRIFTED, str(state["message"]), remedy, note=True)


def _names(evidence: Evidence, documents: list[Document]) -> str:
    """Return the names of the objects as text, without those that could not be read."""
    return ", ".join(
        f"{each['kind']} {each['metadata']['name']}"
        for each in documents
        if BY_KIND[each["kind"]].plural not in evidence.unseen and each["kind"] not in evidence.unserved
    )


def _valid(evidence: Evidence) -> AgentDeployment | None:
    try:
        return evidence.resolved or parse(evidence.agent or {})
    except InvalidAgentError:
        return None


def _as_in_the_status(evidence: Evidence) -> Finding:
    state = condition((evidence.agent or {}).get("status") or {}, "Ready")
    remedy = f"wait, or see kubectl describe agentdeployment {evidence.name} -n {evidence.namespace}"
    if state.get("status") == "False":
        return Finding("pods", state.get("reason", "NotReady"), str(state.get("message", "")).rstrip("."), remedy)
    return Finding("pods", "PodsNotReady", "No pod is ready yet", remedy)
