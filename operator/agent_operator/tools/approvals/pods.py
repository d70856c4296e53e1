"""Requests to the agent API of an agent's pods, through the API server, about calls that wait for an approval."""

import asyncio
from http import HTTPStatus

from pydantic import ValidationError

from agent_operator.kube.errors import ApiError
from agent_operator.manifests.document import Document
from agent_operator.tools.agent_api import AgentApi, is_of_agent
from agent_operator.tools.approvals.calls import Page, Place, Waiting
from agent_operator.tools.cluster import Access
from agent_operator.tools.errors import ToolError

# The largest number that the agent API allows.
_PAGE = 100


class AgentPods:
    """The ready pods of an agent. Without a Redis, each has conversations and tasks of its own, so all are asked.

    `key` is the client key that is sent, if any. The Kubernetes API uses the header Authorization itself.
    """

    def __init__(self, cluster: Access, agent: str, key: str | None) -> None:
        self._api = AgentApi(cluster, agent, key)

    async def waiting(self) -> list[tuple[str, Waiting]]:
        """Return the calls on which the caller may decide, each once and with a pod that has it.

        Raises ToolError, ApiError and UnreachableError.
        """
        pods = await self._api.pods()
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
        pods = await self._api.pods() if pod is None else [pod]
        for each in pods[:-1]:
            try:
                return await self._api.request("POST", each, place.path, body=decision)
            except ApiError as error:
                if error.code != HTTPStatus.NOT_FOUND or not is_of_agent(error):
                    raise self._api.explained(error) from error
        try:
            return await self._api.request("POST", pods[-1], place.path, body=decision)
        except ApiError as error:
            raise self._api.explained(error) from error

    async def _waiting_at(self, pod: str) -> list[Waiting]:
        query, found = {"limit": str(_PAGE)}, list[Waiting]()
        while True:
            try:
                page = Page.model_validate(await self._api.request("GET", pod, "approvals", query=query))
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

    def _not_listed(self, error: ApiError) -> ToolError | ApiError:
        explained = self._api.explained(error)
        if isinstance(explained, ApiError) or error.code not in {HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND}:
            return explained
        if error.code == HTTPStatus.NOT_FOUND:
            return ToolError(f"Agent {self._api.agent} has no approvals: its image is of an earlier release.")
        return ToolError(
            f"{explained} To decide, add --conversation or --task with the ID in that answer: `kubectl agent approve "
            f"{self._api.agent} ID --conversation CONVERSATION`."
        )
