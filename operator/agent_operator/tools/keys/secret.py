"""The Secret with the client keys of an agent, read and written with the user's permissions."""

import base64
import binascii
from collections.abc import Callable, Sequence
from http import HTTPStatus

from agent_operator.kube.connection import MERGE
from agent_operator.kube.errors import ApiError
from agent_operator.kube.resources import AGENT, SECRET
from agent_operator.manifests.client_keys import KEYS, client_keys_name
from agent_operator.tools.cluster import Access
from agent_operator.tools.errors import ToolError
from agent_operator.tools.keys.entries import Entry, entries, written

_MANAGER = "kubectl-agent"

Change = Callable[[Sequence[Entry]], list[Entry]]


class KeysSecret:
    """The Secret of one agent."""

    def __init__(self, cluster: Access, agent: str) -> None:
        self._cluster = cluster
        self._agent = agent

    async def read(self) -> list[Entry]:
        """Return the entries. Raises ToolError, ApiError and UnreachableError."""
        name, key = await self._place()
        return (await self._current(name, key))[0]

    async def change(self, change: Change) -> None:
        """Change the entries. Raises ToolError, also if the Secret has just been changed by others."""
        name, key = await self._place()
        found, version = await self._current(name, key)
        value = base64.b64encode(written(change(found)).encode()).decode()
        body = {"metadata": {"resourceVersion": version}, "data": {key: value}}
        path = SECRET.path(self._cluster.namespace, name)
        query = {"fieldManager": _MANAGER}
        try:
            await self._cluster.connection.request("PATCH", path, query=query, body=body, content_type=MERGE)
        except ApiError as error:
            if error.code == HTTPStatus.CONFLICT:
                raise ToolError(f"The Secret {name} has just been changed by another client: run this again.") from None
            raise

    async def _place(self) -> tuple[str, str]:
        """Return the name of the Secret, and the key in it. An agent of the chart has no AgentDeployment."""
        agent = await self._cluster.get(AGENT, self._cluster.namespace, self._agent)
        auth = {} if agent is None else agent.get("spec", {}).get("auth", {})
        if agent is not None and not auth.get("enabled"):
            raise ToolError(f"Agent {self._agent} has no client keys: set auth.enabled.")
        if auth.get("existingSecret"):
            return auth["existingSecret"], auth.get("secretKey", KEYS)
        return client_keys_name(self._agent), KEYS

    async def _current(self, name: str, key: str) -> tuple[list[Entry], str]:
        secret = await self._cluster.get(SECRET, self._cluster.namespace, name)
        if secret is None:
            raise ToolError(f"There is no Secret {name}: check the name and the namespace of the agent.")
        try:
            text = base64.b64decode(secret.get("data", {}).get(key, ""), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            raise ToolError(f"The key {key} of the Secret {name} is not text.") from None
        return entries(text), secret["metadata"]["resourceVersion"]
