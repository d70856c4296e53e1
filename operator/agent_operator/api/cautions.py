"""Settings of a valid spec that are probably mistakes, reported by both `validate` and the status. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any

from agent_operator.api.mcp import ToolSidecar
from agent_operator.api.scaling import Autoscaling, PodDisruptionBudget
from agent_operator.api.spec import AgentSpec

# Fields of the default security contexts that protect the node. Users and groups are not listed: OpenShift sets its
# own.
_OF_CONTAINER = ("allowPrivilegeEscalation", "capabilities", "readOnlyRootFilesystem")
_OF_POD = ("runAsNonRoot", "seccompProfile")
_OF_RUNTIME = (*_OF_CONTAINER, "runAsNonRoot")

# A single pod has no PodDisruptionBudget (manifests/pod_disruption_budget.py).
_FEWEST_PODS = 2


def cautions(spec: AgentSpec) -> Iterator[tuple[str, str]]:
    """Yield the field and a sentence for each probable mistake."""
    yield from _lost_hardening(spec)
    yield from _undrainable(spec)
    yield from _unmeasured(spec)


def measured(scaling: Autoscaling) -> tuple[str, ...]:
    """Return the resources whose utilization the agent's autoscaler targets."""
    if not scaling.enabled:
        return ()
    memory, in_flight = scaling.target_memory_utilization_percentage, scaling.target_in_flight_requests
    by_cpu = scaling.target_cpu_utilization_percentage is not None or (memory is None and in_flight is None)
    return tuple(name for name, used in (("cpu", by_cpu), ("memory", memory is not None)) if used)


def _lost_hardening(spec: AgentSpec) -> Iterator[tuple[str, str]]:
    container, pod = spec.security_context, spec.pod_security_context
    lost = {
        "spec.securityContext": [name for name in _OF_CONTAINER if name not in container],
        # A container's own setting overrides the pod's.
        "spec.podSecurityContext": [name for name in _OF_POD if name not in pod and name not in container],
    }
    if spec.runtime is not None:
        runtime = spec.runtime.security_context
        lost["spec.runtime.securityContext"] = [name for name in _OF_RUNTIME if name not in runtime and name not in pod]
    for index, sidecar in sidecars_of_tools(spec):
        context = sidecar.security_context
        field = f"spec.tools[{index}].mcp.sidecar.securityContext"
        lost[field] = [name for name in _OF_RUNTIME if name not in context and name not in pod]
    for field, names in lost.items():
        if names:
            them = "them" if len(names) > 1 else "it"
            yield field, f"replaces the entire default and removes its {', '.join(names)}: set {them} here too"


def sidecars_of_tools(spec: AgentSpec) -> Iterator[tuple[int, ToolSidecar]]:
    """Yield the containers of tools that the user provides, each with the index of its entry."""
    for index, tool in enumerate(spec.tools or []):
        if tool.mcp is not None and tool.mcp.sidecar is not None:
            yield index, tool.mcp.sidecar


def _undrainable(spec: AgentSpec) -> Iterator[tuple[str, str]]:
    budget, scaling, worker = spec.pod_disruption_budget, spec.autoscaling, spec.worker
    groups = {"pods": scaling.min_replicas if scaling.enabled else spec.replicas}
    if worker.enabled:
        groups["workers"] = worker.autoscaling.min_replicas if worker.autoscaling.enabled else worker.replicas
    for title, pods in groups.items():
        if budget.enabled and pods >= _FEWEST_PODS and _may_leave(budget, pods) <= 0:
            field, change = (
                ("minAvailable", "lower") if budget.min_available is not None else ("maxUnavailable", "raise")
            )
            yield (
                f"spec.podDisruptionBudget.{field}",
                f"allows none of the {pods} {title} to be evicted, so their nodes cannot be drained: {change} it",
            )


def _may_leave(budget: PodDisruptionBudget, pods: int) -> int:
    """Return how many of the pods may be evicted.

    Percentages are rounded up (kube-controller-manager, disruption.go).
    """
    if budget.min_available is not None:
        return pods - _scaled(budget.min_available, pods)
    return _scaled(budget.max_unavailable, pods)


def _scaled(count: int | str, pods: int) -> int:
    return count if isinstance(count, int) else -(-int(count.removesuffix("%")) * pods // 100)


def _unmeasured(spec: AgentSpec) -> Iterator[tuple[str, str]]:
    """Yield containers that prevent resource usage from being computed: each container of the pod needs a request."""
    for name in measured(spec.autoscaling):
        for field, containers in (("sidecars", spec.sidecars), ("initContainers", spec.init_containers)):
            for index, container in enumerate(containers or []):
                document = container.model_dump(by_alias=True, exclude_none=True)
                runs_on = field == "sidecars" or document.get("restartPolicy") == "Always"
                if runs_on and name not in _requested(document):
                    yield f"spec.{field}[{index}].resources", _unrequested(name)
        if spec.runtime is not None and name not in _requested(spec.runtime.model_dump(by_alias=True)):
            yield "spec.runtime.resources", _unrequested(name)
        for index, sidecar in sidecars_of_tools(spec):
            if name not in _requested(sidecar.model_dump(by_alias=True)):
                yield f"spec.tools[{index}].mcp.sidecar.resources", _unrequested(name)


def _unrequested(name: str) -> str:
    sentence = f"autoscaling on {name} utilization does not work while a container has no {name} request"
    return f"{sentence}: set requests.{name}"


def _requested(container: Mapping[str, Any]) -> set[str]:
    """Return the resources that the container requests. A limit alone counts as a request of the same amount."""
    resources = container.get("resources")
    given = resources if isinstance(resources, Mapping) else {}
    return {name for kind in ("requests", "limits") for name in given.get(kind) or {}}
