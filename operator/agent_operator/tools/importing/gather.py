"""A workload and what belongs to it, read from the cluster. Secrets are not read."""

import asyncio
from collections.abc import Iterable, Iterator
from http import HTTPStatus
from typing import Any

from agent_operator.api.agent import KIND as AGENT_DEPLOYMENT
from agent_operator.api.validation import without_nulls
from agent_operator.kube.errors import ApiError
from agent_operator.kube.resources import (
    AUTOSCALER,
    CONFIG_MAP,
    DEPLOYMENT,
    DISRUPTION_BUDGET,
    INGRESS,
    SERVICE,
    Resource,
)
from agent_operator.manifests.document import Document
from agent_operator.tools.cluster import Access, Target, access
from agent_operator.tools.errors import ToolError
from agent_operator.tools.importing import convert
from agent_operator.tools.importing.belongings import KAGENT, Belongings, metadata_of
from agent_operator.tools.importing.deployment import Choices
from agent_operator.tools.importing.draft import object_of, objects_of, text_of
from agent_operator.tools.importing.kagent_model import DEFAULT_CONFIG
from agent_operator.tools.importing.kagent_tools import MCP_SERVER, REMOTE_SERVER, references

AGENT = Resource("Agent", KAGENT, "v1alpha2", "agents", optional=True)
MODEL_CONFIG = Resource("ModelConfig", KAGENT, "v1alpha2", "modelconfigs", optional=True)
_SERVERS = {
    REMOTE_SERVER: Resource(REMOTE_SERVER, KAGENT, "v1alpha2", "remotemcpservers", optional=True),
    MCP_SERVER: Resource(MCP_SERVER, KAGENT, "v1alpha1", "mcpservers", optional=True),
}
# What may belong to a Deployment.
_AROUND = (SERVICE, AUTOSCALER, DISRUPTION_BUDGET, INGRESS)


async def import_name(
    target: Target, name: str, choices: Choices, kind: str | None
) -> tuple[list[convert.Imported], list[str]]:
    """Return the converted workload with this name, and a line for what could not be read. Raises ToolError."""
    async with access(target) as cluster:
        workload = await _workload(cluster, name, kind)
        read = _Reading(cluster)
        documents = await (read.around_deployment() if workload["kind"] == DEPLOYMENT.kind else read.of_agent(workload))
        around = Belongings([without_nulls(each) for each in documents])
        converted = convert.convert_all([without_nulls(workload)], around, choices)
        missing = await read.missing(_config_maps(workload))
    return converted, [*read.unseen, *missing]


async def _workload(cluster: Access, name: str, kind: str | None) -> Document:
    """Return the Deployment or the Agent with this name. An Agent takes precedence over its own Deployment."""
    resources = [each for each in (DEPLOYMENT, AGENT) if kind in (None, each.kind)]
    found = await asyncio.gather(*(_get(cluster, each, name) for each in resources), return_exceptions=True)
    there = {each["kind"]: each for each in found if isinstance(each, dict)}
    deployment = there.get(DEPLOYMENT.kind, {})
    owners = {each.get("kind") for each in objects_of(metadata_of(deployment).get("ownerReferences"))}
    if AGENT_DEPLOYMENT in owners:
        raise ToolError(
            f"Deployment {name} belongs to an {AGENT_DEPLOYMENT} already: see `kubectl get agentdeployments`."
        )
    if AGENT.kind in owners and AGENT.kind in there:
        del there[DEPLOYMENT.kind]
    if len(there) > 1:
        raise ToolError(f"There are a Deployment and an Agent of kagent named {name}: choose one with --kind.")
    if not there:
        # An error about one kind matters only if the other kind has no such object.
        for error in found:
            if isinstance(error, BaseException):
                raise error
        named = kind or "Deployment or kagent Agent"
        raise ToolError(f"No {named} {name} found in namespace {cluster.namespace}: check the name, or pass -n.")
    return next(iter(there.values()))


async def _get(cluster: Access, resource: Resource, name: str, namespace: str | None = None) -> Document | None:
    found = await cluster.get(resource, namespace or cluster.namespace, name)
    api_version = f"{resource.group}/{resource.version}".removeprefix("/")
    return None if found is None else {**found, "kind": resource.kind, "apiVersion": api_version}


class _Reading:
    """Reads of what belongs to a workload; what may not be read is recorded in `unseen`."""

    def __init__(self, cluster: Access) -> None:
        self._cluster = cluster
        self.unseen: list[str] = []

    async def around_deployment(self) -> list[Document]:
        lists = await asyncio.gather(*(self._list(each) for each in _AROUND))
        return [document for documents in lists for document in documents]

    async def of_agent(self, agent: Document) -> list[Document]:
        declarative = object_of(object_of(agent.get("spec")).get("declarative"))
        if not declarative:
            return []
        model = text_of(declarative.get("modelConfig")) or DEFAULT_CONFIG
        wanted: list[tuple[Resource, str | None, str]] = [(MODEL_CONFIG, None, model)]
        servers = dict.fromkeys(references(declarative.get("tools")))
        wanted += [(_SERVERS[kind], namespace, name) for kind, namespace, name in servers if kind in _SERVERS]
        found = await asyncio.gather(*(self._one(*each) for each in wanted))
        return [each for each in found if each is not None]

    async def missing(self, names: Iterable[str]) -> list[str]:
        """Return a line for each of these ConfigMaps that does not exist."""
        lines = []
        for name in names:
            try:
                found = await self._cluster.get(CONFIG_MAP, self._cluster.namespace, name, metadata_only=True)
            except ApiError as error:
                self._unseen(CONFIG_MAP, error)
                break
            if found is None:
                lines.append(f"ConfigMap/{name}: does not exist, and the pods need it: create it")
        return lines

    async def _list(self, resource: Resource) -> list[Document]:
        try:
            return await self._cluster.list(resource, self._cluster.namespace)
        except ApiError as error:
            self._unseen(resource, error)
            return []

    async def _one(self, resource: Resource, namespace: str | None, name: str) -> Document | None:
        try:
            return await _get(self._cluster, resource, name, namespace)
        except ApiError as error:
            self._unseen(resource, error)
            return None

    def _unseen(self, resource: Resource, error: ApiError) -> None:
        if error.code == HTTPStatus.UNAUTHORIZED:
            raise error
        self.unseen.append(f"{resource.kind}: could not be read, so it is not in the result: {error.message}")


def _config_maps(value: Any) -> list[str]:
    """Return the names of all ConfigMaps that a workload requires, without duplicates."""
    return list(dict.fromkeys(_references(value)))


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, list):
        for each in value:
            yield from _references(each)
    elif isinstance(value, dict):
        for key, child in value.items():
            if key in ("configMap", "configMapRef", "configMapKeyRef") and isinstance(child, dict):
                if child.get("name") and not child.get("optional"):
                    yield child["name"]
            elif key == "systemMessageFrom" and isinstance(child, dict):
                yield from [child["name"]] if child.get("type") == "ConfigMap" and child.get("name") else []
            else:
                yield from _references(child)
