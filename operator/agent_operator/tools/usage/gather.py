"""Gathering of what the clients of agents have used, from the agents themselves."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus

from pydantic import ValidationError

from agent_operator.kube.errors import ApiError, ProxyFailedError, UnreachableError
from agent_operator.kube.resources import AGENT, POD
from agent_operator.manifests.document import Document
from agent_operator.manifests.labels import INSTANCE, NAME, PRODUCT
from agent_operator.tools.agent_api import KEYS, AgentApi, is_of_agent
from agent_operator.tools.cluster import Access, Target, access, explained
from agent_operator.tools.errors import ToolError
from agent_operator.tools.keys.secret import KeysSecret
from agent_operator.tools.usage.rows import History, Usage, merged

# Each takes a few requests, one of which goes through the API server to a pod.
_AT_ONCE = 8


@dataclass(frozen=True)
class _Agent:
    """An agent with its spec; None for one that the chart has installed, or whose AgentDeployment cannot be read."""

    namespace: str
    name: str
    spec: Document | None


async def gather(
    target: Target, names: Sequence[str], period: Mapping[str, str], *, everywhere: bool, key: str | None
) -> list[Usage]:
    """Return the usage of the named agents, or of all of the namespace or the cluster.

    Args:
        target: the cluster and the namespace.
        names: the agents; empty for all.
        period: `since` and `until`, as the agent API has them.
        everywhere: whether to read the agents of all namespaces.
        key: the client key for all of them; None to read that of each agent from its Secret.

    Raises:
        ToolError: if the cluster cannot be queried.
    """
    async with access(target) as cluster:
        slots = asyncio.Semaphore(_AT_ONCE)

        async def read(agent: _Agent) -> Usage:
            async with slots:
                return await _read(Access(cluster.connection, agent.namespace), agent, period, key)

        found = await (_named(cluster, names) if names else _all(cluster, None if everywhere else cluster.namespace))
        return list(await asyncio.gather(*map(read, found)))


async def _named(cluster: Access, names: Sequence[str]) -> list[_Agent]:
    """Return the agents with these names. An agent of the chart has no AgentDeployment."""
    found = []
    for name in dict.fromkeys(names):
        try:
            agent = await cluster.get(AGENT, cluster.namespace, name)
        except ApiError as error:
            if error.code != HTTPStatus.FORBIDDEN:
                raise
            agent = None
        found.append(_Agent(cluster.namespace, name, None if agent is None else agent.get("spec") or {}))
    return found


async def _all(cluster: Access, namespace: str | None) -> list[_Agent]:
    """Return all agents: those with an AgentDeployment, and those of the chart, which have pods only."""
    pods = await cluster.list(POD, namespace, labelSelector=f"{NAME}={PRODUCT}")
    found: dict[tuple[str, str], _Agent] = {}
    for pod in pods:
        place = pod["metadata"]["namespace"], pod["metadata"]["labels"].get(INSTANCE, "")
        found[place] = _Agent(*place, None)
    try:
        agents = await cluster.list(AGENT, namespace)
    except ApiError as error:
        if error.code != HTTPStatus.NOT_FOUND:
            raise
        agents = []
    for agent in agents:
        place = agent["metadata"]["namespace"], agent["metadata"]["name"]
        found[place] = _Agent(*place, agent.get("spec") or {})
    return [found[place] for place in sorted(found)]


async def _read(cluster: Access, agent: _Agent, period: Mapping[str, str], key: str | None) -> Usage:
    """Return the usage of an agent, or why it cannot be read. Raises ApiError and UnreachableError for the cluster."""
    try:
        api = AgentApi(cluster, agent.name, key or await _readers_key(cluster, agent))
        shared = bool((agent.spec or {}).get("redis"))
        answers = await _answers(api, period, shared=shared, own_key=key is None)
        return merged(agent.namespace, agent.name, answers)
    except ToolError as error:
        problem = str(error)
    except ApiError as error:
        # Refused credentials are refused for every agent.
        if error.code == HTTPStatus.UNAUTHORIZED:
            raise
        problem = explained(error)
    except ProxyFailedError:
        raise
    except UnreachableError as error:
        problem = f"{error}."
    return Usage(agent.namespace, agent.name, problem=problem)


async def _readers_key(cluster: Access, agent: _Agent) -> str:
    """Return a key of a client that may read all usage."""
    if agent.spec is None:
        raise ToolError(
            f"No AgentDeployment {agent.name} could be read: name the agent, and set {KEYS} to a reader's key."
        )
    readers = (agent.spec.get("auth") or {}).get("usageReaders") or []
    if not readers:
        raise ToolError("No client may read its usage: name one in auth.usageReaders.")
    entries = await KeysSecret(cluster, agent.name).read()
    found = next((entry.key for entry in entries if entry.client_id in readers), None)
    if found is None:
        raise ToolError(f"Its Secret has no key of {', '.join(readers)} (auth.usageReaders): add one.")
    return found


async def _answers(api: AgentApi, period: Mapping[str, str], *, shared: bool, own_key: bool) -> list[History]:
    """Return the answers of the pods; of one pod if they share their state. Raises ToolError, ApiError."""
    pods = await api.pods()
    answers = []
    for pod in pods:
        try:
            answers.append(History.model_validate(await api.request("GET", pod, "usage/history", query=period)))
        except ApiError as error:
            raise _explained(api, error, own_key=own_key) from error
        except ValidationError as error:
            raise ToolError("It answered in another form than expected: use the tools of its release.") from error
        if shared:
            break
    return answers


def _explained(api: AgentApi, error: ApiError, *, own_key: bool) -> ToolError | ApiError:
    if is_of_agent(error) and error.code == HTTPStatus.NOT_FOUND:
        return ToolError("It keeps no history of usage: its image is of an earlier release.")
    if is_of_agent(error) and error.code == HTTPStatus.UNAUTHORIZED and own_key:
        return ToolError("It does not accept the key in its Secret: if it was just changed, try again in two minutes.")
    return api.explained(error)
