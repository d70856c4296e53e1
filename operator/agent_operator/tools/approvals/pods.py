"""Requests to the agent API of an agent's pods, through the API server, about calls that wait for an approval."""

import asyncio
import re
from collections.abc import Mapping
from http import HTTPStatus
from urllib.parse import quote

from pydantic import ValidationError

from agent_operator.controller.status.pod_problems import is_meant_to_run
from agent_operator.kube.conditions import condition
from agent_operator.kube.errors import ApiError
from agent_operator.kube.resources import POD
from agent_operator.manifests.document import Document
from agent_operator.manifests.labels import selector
from agent_operator.manifests.names import CONTAINER_PORT
from agent_operator.tools.approvals.calls import Page, Place, Waiting
from agent_operator.tools.cluster import Access
from agent_operator.tools.errors import ToolError

# The largest number that the agent API allows.
_PAGE = 100
KEYS = "API_KEYS"


class AgentPods:
    """The ready pods of an agent. Without a Redis, each has conversations and tasks of its own, so all are asked.

    `key` is the client key that is sent, if any. The Kubernetes API uses the header Authorization itself.
    """

    def __init__(self, cluster: Access, agent: str, key: str | None) -> None:
        self._cluster = cluster
        self._agent = agent
        self._headers = {} if key is None else {"X-API-Key": key}

    async def waiting(self) -> list[tuple[str, Waiting]]:
        """Return the calls on which the caller may decide, each once and with a pod that has it.

        Raises ToolError, ApiError and UnreachableError.
        """
        pods = await self._pods()
        lists = await asyncio.gather(*(self._waiting_at(pod) for pod in pods))
        found: dict[str, tuple[str, Waiting]] = {}
        for pod, calls in zip(pods, lists, strict=True):
            for call in calls:
                found.setdefault(call.id, (pod, call))
        return list(found.values())

    async def decide(self, place: Place, decision: Document, pod: str | None = None) -> Document:
        """Send a decision to a pod, by default to each in turn until one has the call, and return the answer.

        Raises ToolError, ApiError and UnreachableError.
        """
        pods = await self._pods() if pod is None else [pod]
        for each in pods[:-1]:
            try:
                return await self._request("POST", each, place.path, body=decision)
            except ApiError as error:
                if error.code != HTTPStatus.NOT_FOUND or not _is_of_agent(error):
                    raise self._explained(error) from error
        try:
            return await self._request("POST", pods[-1], place.path, body=decision)
        except ApiError as error:
            raise self._explained(error) from error

    async def _pods(self) -> list[str]:
        labels = ",".join(f"{name}={value}" for name, value in selector(self._agent).items())
        pods = await self._cluster.list(POD, self._cluster.namespace, labelSelector=labels)
        ready = [
            pod for pod in pods if is_meant_to_run(pod) and condition(pod["status"], "Ready").get("status") == "True"
        ]
        if not ready:
            raise ToolError(
                f"Agent {self._agent} has no ready pod in namespace {self._cluster.namespace}: run "
                f"`kubectl agent doctor {self._agent} -n {self._cluster.namespace}`."
            )
        return sorted(str(pod["metadata"]["name"]) for pod in ready)

    async def _waiting_at(self, pod: str) -> list[Waiting]:
        query, found = {"limit": str(_PAGE)}, list[Waiting]()
        while True:
            try:
                page = Page.model_validate(await self._request("GET", pod, "approvals", query=query))
            except ApiError as error:
                raise self._not_listed(error) from error
            except ValidationError as error:
                raise ToolError(
                    f"Pod {pod} answered in another form than expected: use the tools of the release that it runs."
                ) from error
            found += page.approvals
            if page.next_cursor is None or not page.approvals:
                return found
            query["cursor"] = page.next_cursor

    async def _request(
        self,
        method: str,
        pod: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Document | None = None,
    ) -> Document:
        place = f"/api/v1/namespaces/{quote(self._cluster.namespace)}/pods/{quote(pod)}:{CONTAINER_PORT}/proxy/{path}"
        answer = await self._cluster.connection.request(method, place, query=query, body=body, headers=self._headers)
        return answer.body

    def _not_listed(self, error: ApiError) -> ToolError | ApiError:
        explained = self._explained(error)
        if isinstance(explained, ApiError) or error.code not in {HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND}:
            return explained
        if error.code == HTTPStatus.NOT_FOUND:
            return ToolError(f"Agent {self._agent} has no approvals: its image is of an earlier release.")
        return ToolError(
            f"{explained} To decide, add --conversation or --task with the ID in that answer: `kubectl agent approve "
            f"{self._agent} ID --conversation CONVERSATION`."
        )

    def _explained(self, error: ApiError) -> ToolError | ApiError:
        """Return the agent's refusal with what to do; a refusal of the API server is returned unchanged."""
        if not _is_of_agent(error):
            return error
        if error.code != HTTPStatus.UNAUTHORIZED:
            return ToolError(f"Agent {self._agent}: {error.body['detail']}")
        if self._headers:
            return ToolError(f"Agent {self._agent} does not accept the client key in {KEYS}: check it.")
        return ToolError(
            f"Agent {self._agent} requires a client key: set the environment variable {KEYS} to it. The key that the "
            f"operator generated is in the Secret {self._agent}-client-keys."
        )


def _is_of_agent(error: ApiError) -> bool:
    """Return whether the agent refused the request, and not the API server in front of it."""
    return isinstance(error.body.get("detail"), str) and error.body.get("kind") != "Status"


def first_key(keys: str | None) -> str | None:
    """Return the first of the client keys in a setting, without its name (`name: key`); None without any."""
    return next((part for part in re.split(r"[,\s]+", keys or "") if part and not part.endswith(":")), None)
