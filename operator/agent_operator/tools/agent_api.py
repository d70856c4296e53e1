"""Requests to the agent API of an agent's pods, through the API server, with a client key."""

import re
from collections.abc import Mapping
from http import HTTPStatus
from urllib.parse import quote

from agent_operator.controller.status.pod_problems import is_meant_to_run
from agent_operator.kube.conditions import condition
from agent_operator.kube.errors import ApiError
from agent_operator.kube.resources import POD
from agent_operator.manifests.document import Document
from agent_operator.manifests.labels import selector
from agent_operator.manifests.names import CONTAINER_PORT
from agent_operator.tools.cluster import Access
from agent_operator.tools.errors import ToolError

KEYS = "API_KEYS"


class AgentApi:
    """The agent API of one agent in the namespace of `cluster`.

    `key` is the client key that is sent, if any. The Kubernetes API uses the header Authorization itself.
    """

    def __init__(self, cluster: Access, agent: str, key: str | None) -> None:
        self.agent = agent
        self.has_key = key is not None
        self._cluster = cluster
        self._headers = {} if key is None else {"X-API-Key": key}

    async def pods(self) -> list[str]:
        """Return the names of the ready pods. Raises ToolError if there is none, ApiError and UnreachableError."""
        labels = ",".join(f"{name}={value}" for name, value in selector(self.agent).items())
        pods = await self._cluster.list(POD, self._cluster.namespace, labelSelector=labels)
        ready = [
            pod for pod in pods if is_meant_to_run(pod) and condition(pod["status"], "Ready").get("status") == "True"
        ]
        if not ready:
            raise ToolError(
                f"Agent {self.agent} has no ready pod in namespace {self._cluster.namespace}: run "
                f"`kubectl agent doctor {self.agent} -n {self._cluster.namespace}`."
            )
        return sorted(str(pod["metadata"]["name"]) for pod in ready)

    async def request(
        self,
        method: str,
        pod: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Document | None = None,
    ) -> Document:
        """Return the answer of a pod. Raises ApiError and UnreachableError."""
        place = f"/api/v1/namespaces/{quote(self._cluster.namespace)}/pods/{quote(pod)}:{CONTAINER_PORT}/proxy/{path}"
        answer = await self._cluster.connection.request(method, place, query=query, body=body, headers=self._headers)
        return answer.body

    def explained(self, error: ApiError) -> ToolError | ApiError:
        """Return the agent's refusal with what to do; a refusal of the API server is returned unchanged."""
        if not is_of_agent(error):
            return error
        if error.code != HTTPStatus.UNAUTHORIZED:
            return ToolError(f"Agent {self.agent}: {error.body['detail']}")
        if self.has_key:
            return ToolError(f"Agent {self.agent} does not accept the client key in {KEYS}: check it.")
        return ToolError(
            f"Agent {self.agent} requires a client key: set the environment variable {KEYS} to it. The key that the "
            f"operator generated is in the Secret {self.agent}-client-keys."
        )


def is_of_agent(error: ApiError) -> bool:
    """Return whether the agent refused the request, and not the API server in front of it."""
    return isinstance(error.body.get("detail"), str) and error.body.get("kind") != "Status"


def first_key(keys: str | None) -> str | None:
    """Return the first of the client keys in a setting, without its name (`name: key`); None without any."""
    return next((part for part in re.split(r"[,\s]+", keys or "") if part and not part.endswith(":")), None)
