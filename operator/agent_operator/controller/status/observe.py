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


class Observer:
    """Observes agents from the cache."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    def observe(
        self,
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
            deployment=self.owned(DEPLOYMENT, key, agent.name, owner),
            worker=self.owned(DEPLOYMENT, key, worker, owner),
            autoscaler=self._autoscaler(key, agent, agent.name, owner),
            worker_autoscaler=self._autoscaler(key, agent, worker, owner),
            pods=self._cache.pods(key),
            problems=problems,
            reported=reported,
            left=left,
        )

    def owned(self, resource: Resource, key: Key, name: str, owner: Owner) -> Document | None:
        """Return an object that the agent owns, or None."""
        found = self._cache.get(resource.kind, key.namespace, name)
        return found if found is not None and owner.owns(found) else None

    def _autoscaler(self, key: Key, agent: AgentDeployment, name: str, owner: Owner) -> Document | None:
        """Return the HorizontalPodAutoscaler of a Deployment: ours, or the one KEDA made from our ScaledObject.

        KEDA's carries the ScaledObject's labels. While KEDA has made none, returns the ScaledObject itself.
        """
        if agent.spec.autoscaling.engine != "keda":
            return self.owned(AUTOSCALER, key, name, owner)
        scaled_object = self.owned(SCALED_OBJECT, key, name, owner)
        if scaled_object is None:
            return None
        return self._cache.get(AUTOSCALER.kind, key.namespace, keda_autoscaler_name(name)) or scaled_object
