"""The state of each step of the chain, with a short message. Pure."""

from agent_operator.api.agent import GROUP, PLURAL
from agent_operator.tools.doctor.evidence import Evidence
from agent_operator.tools.doctor.report import STEPS, Finding, State, Step
from agent_operator.tools.doctor.scaling import scaling_summary
from agent_operator.tools.doctor.service import service_summary
from agent_operator.tools.doctor.tools import tool_summary

# Topics that do not concern the operator's objects.
_OTHER_TOPICS = {"leases", "events", "health", "pods", "replicasets", "endpointslices"}


def steps_of(evidence: Evidence, findings: list[Finding]) -> list[Step]:
    """Return the steps of the chain. Steps that depend on the first wrong one have the state `waits`."""
    steps: list[Step] = []
    broken = False
    for name in STEPS:
        wrong = next((each for each in findings if each.step == name and not each.note), None)
        state, message = _without_findings(evidence, name)
        if wrong is not None:
            state, message = "wrong", wrong.message
        elif broken and state == "wrong":
            state = "waits"
        noted = next((each for each in findings if each.step == name and each.note), None)
        # What each server answered matters more than a note about one.
        if wrong is None and noted is not None and name != "tools":
            message = noted.message
        steps.append(Step(name, state, message))
        broken = broken or state == "wrong"
    return steps


def _without_findings(evidence: Evidence, step: str) -> tuple[State, str]:
    """Return the state of a step without findings, with a message."""
    if step == "definition":
        return "ok", f"{PLURAL}.{GROUP} is installed"
    if step == "spec":
        return "ok", "valid"
    summaries = {
        "operator": _operator,
        "objects": _objects,
        "pods": _pods,
        "service": service_summary,
        "scaling": scaling_summary,
        "tools": tool_summary,
    }
    return summaries[step](evidence)


def _objects(evidence: Evidence) -> tuple[State, str]:
    unseen = sorted(set(evidence.unseen) - _OTHER_TOPICS)
    if unseen:
        return "unknown", f"some could not be read: {', '.join(unseen)}"
    return "ok", f"all {len(evidence.objects)} exist"


def _operator(evidence: Evidence) -> tuple[State, str]:
    alive = next((lease for lease in evidence.leases if lease.alive), None)
    if alive is not None:
        return "ok", f"{alive.holder} is the leader (Lease {alive.namespace}/{alive.name}), and has observed this spec"
    if "leases" in evidence.unseen:
        return "ok", "has observed this spec; whether it is still running could not be checked"
    return "unknown", "has observed this spec"


def _pods(evidence: Evidence) -> tuple[State, str]:
    counts: list[str] = []
    state: State = "ok"
    for component, deployment in evidence.deployments():
        if deployment is None:
            return ("unknown" if "deployments" in evidence.unseen else "wrong"), "Deployment not found"
        wanted = deployment["spec"].get("replicas", 1)
        available = deployment.get("status", {}).get("availableReplicas", 0)
        counts.append(f"{available} of {wanted} {component} pods are available" if wanted else "0 replicas are desired")
        state = state if available >= wanted else "wrong"
    return state, "; ".join(counts)
