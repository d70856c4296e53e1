"""Observation of an agent from the cache."""

from collections.abc import Sequence

from agent_operator.api.agent import AgentDeployment
from agent_operator.controller.status.dependencies import Report
from agent_operator.controller.status.drift import Left
from agent_operator.controller.status.pod_problems import Problem
from agent_operator.controller.status.status import Observation
from agent_operator.kube.cache import Cache
from agent_operator.kube.owner import Owner
from agent_operator.kube.resources import AUTOSCALER, DEPLOYMENT, SCALED_OBJECT, Key, Resource
from agent_operator.manifests.document import Document
from agent_operator.manifests.names import keda_autoscaler_name, worker_name


def observe(
    cache: Cache,
    key: Key,
    agent: AgentDeployment,
    owner: Owner,
    *,
    problems: list[Problem],
    reported: Report,
    left: Sequence[Left],
) -> Observation:
    """Return what was observed of an agent."""
    worker = worker_name(agent.name)
    return Observation(
        deployment=owned(cache, DEPLOYMENT, key, agent.name, owner),
        worker=owned(cache, DEPLOYMENT, key, worker, owner),
        autoscaler=_autoscaler(cache, key, agent, agent.name, owner),
        worker_autoscaler=_autoscaler(cache, key, agent, worker, owner),
        pods=cache.pods(key),
        problems=problems,
        reported=reported,
        left=left,
    )


def owned(cache: Cache, resource: Resource, key: Key, name: str, owner: Owner) -> Document | None:
    """Return an object that the agent owns, or None."""
    found = cache.get(resource.kind, key.namespace, name)
    return found if found is not None and owner.owns(found) else None


def _autoscaler(cache: Cache, key: Key, agent: AgentDeployment, name: str, owner: Owner) -> Document | None:
    """Return the HorizontalPodAutoscaler of a Deployment: ours, or the one KEDA made from our ScaledObject.

    KEDA's carries the ScaledObject's labels. While KEDA has made none, returns the ScaledObject itself.
    """
    if agent.spec.autoscaling.engine != "keda":
        return owned(cache, AUTOSCALER, key, name, owner)
    scaled_object = owned(cache, SCALED_OBJECT, key, name, owner)
    if scaled_object is None:
        return None
    return cache.get(AUTOSCALER.kind, key.namespace, keda_autoscaler_name(name)) or scaled_object
