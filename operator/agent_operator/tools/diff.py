"""`agent-operator diff`: what the operator would change, determined by dry runs of its requests."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TextIO

from agent_operator.api.agent import KIND, AgentDeployment
from agent_operator.classes.choice import Classes
from agent_operator.controller.metrics import Metrics
from agent_operator.controller.reconcile import secret_cache
from agent_operator.controller.reconcile.adoption import wants_adoption
from agent_operator.controller.reconcile.apply import Cluster
from agent_operator.controller.reconcile.client_keys import with_settled_keys
from agent_operator.controller.reconcile.conflicts import described
from agent_operator.controller.reconcile.plan import make_plan
from agent_operator.controller.reconcile.server_references import References
from agent_operator.controller.reconcile.steps import Apply, Name, Plan
from agent_operator.controller.status.status import POLICY_REFUSED
from agent_operator.kube.conditions import condition
from agent_operator.kube.connection import APPLY, MERGE
from agent_operator.kube.drift import FIELD_MANAGER, pruned
from agent_operator.kube.errors import ApiError
from agent_operator.kube.owner import Owner
from agent_operator.kube.resources import AGENT, BY_KIND, CHILDREN, OPTIONAL, SECRET, Resource
from agent_operator.manifests import desired
from agent_operator.manifests.document import Document
from agent_operator.manifests.labels import MANAGED_BY, OPERATOR
from agent_operator.tools.cluster import Access, Target, access, explained
from agent_operator.tools.errors import ToolError
from agent_operator.tools.live_agent import live_agent
from agent_operator.tools.live_classes import applied, in_cluster
from agent_operator.tools.render import valid_agents

# An agent that does not exist yet has no uid; the API server requires some text in an owner reference.
NO_UID = "00000000-0000-0000-0000-000000000000"


@dataclass(frozen=True)
class Change:
    """An object before and after; None where it does not exist. Secrets include their content."""

    before: Document | None
    after: Document | None


@dataclass
class Difference:
    """The result for one agent: the changes, and sentences about what could not be done."""

    agent: str
    changes: list[Change] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


async def differences(
    target: Target, names: Sequence[str], sources: Sequence[str], stdin: TextIO, classes: Classes | None = None
) -> list[Difference]:
    """Return the result for the named agents in the cluster, and for those in these files.

    `classes` replace those of the cluster. Raises ToolError.
    """
    async with access(target) as cluster:
        if not await cluster.is_served(AGENT):
            raise ToolError(
                f"The cluster does not serve {AGENT.plural}.{AGENT.group}. "
                "Install the definition: agent-operator crd | kubectl apply --server-side -f -"
            )
        agents = valid_agents(sources, stdin, namespace=cluster.namespace) if sources else []
        classes = classes if classes is not None else await in_cluster(cluster)
        return [
            *[await of_live_agent(cluster, name, classes) for name in names],
            *[await difference(cluster, agent, found.document, classes) for agent, found in agents],
        ]


async def difference(
    cluster: Access, agent: AgentDeployment, document: Document, classes: Classes | None
) -> Difference:
    """Return what the operator would do for this agent. `document` is its source, which has its annotations.

    `classes` is None if the user may not read them. Raises ToolError if the user lacks another permission.
    """
    live = await cluster.get(AGENT, agent.namespace, agent.name)
    found = Difference(f"{agent.namespace}/{agent.name}")
    if live is not None and "deletionTimestamp" in live["metadata"]:
        found.problems.append(f"{KIND} {agent.name} is being deleted: the operator no longer creates objects for it")
        return found
    owner = Owner(agent.name, live["metadata"]["uid"] if live is not None else NO_UID)
    resolved = await References(cluster).resolve(agent, (live or {}).get("status") or {})
    found.problems += [problem.message for problem in resolved.problems]
    with_class = applied(resolved.agent, classes, (live or {}).get("status") or {})
    if with_class.refusal is not None:
        found.problems.append(str(with_class.refusal))
        return found
    agent = with_class.agent
    wanted = desired(agent)
    unknown = await _not_served(cluster, {each["kind"] for each in wanted})
    found.problems += [
        f"The cluster does not serve {kind}: install its definition, or remove it from the spec" for kind in unknown
    ]
    wanted = [each for each in wanted if each["kind"] not in unknown]
    try:
        observed = await _observe(cluster, agent, owner, wanted)
        # A placeholder for a client key that the operator would generate.
        wanted = with_settled_keys(document, wanted, observed, lambda: "generated")
        adopt = wants_adoption(document)
        plan = make_plan(owner, wanted, observed, adopt=adopt)
        found.problems += described(plan.conflicts, agent.namespace, agent.name, adopt=adopt)
        await _try(cluster, plan, observed, found)
    except ApiError as error:
        raise ToolError(_dry_run_error(error)) from error
    return found


async def of_live_agent(cluster: Access, name: str, classes: Classes | None) -> Difference:
    """Return what the operator would change now for an agent in the cluster. Raises ToolError if it does not exist."""
    agent, document = await live_agent(cluster, name)
    status = document.get("status") or {}
    ready = condition(status, "Ready")
    # Only the operator knows its policy.
    if ready.get("reason") == POLICY_REFUSED and ready.get("observedGeneration") == agent.generation:
        return Difference(f"{agent.namespace}/{agent.name}", problems=[str(ready.get("message", ""))])
    return await difference(cluster, agent, document, classes)


def _dry_run_error(error: ApiError) -> str:
    if error.code != HTTPStatus.FORBIDDEN:
        return explained(error)
    return (
        "diff reads the objects of an agent, and sends dry runs to the API server to compute how they would change. "
        f"Dry runs require the verb patch (nothing is changed). You do not have permission: {error.message}"
    )


async def _not_served(cluster: Access, kinds: set[str]) -> list[str]:
    resources = [each for each in OPTIONAL if each.kind in kinds]
    served = await asyncio.gather(*(cluster.is_served(each) for each in resources))
    return [each.kind for each, there in zip(resources, served, strict=True) if not there]


async def _observe(
    cluster: Access, agent: AgentDeployment, owner: Owner, wanted: Sequence[Document]
) -> dict[Name, Document]:
    """Return the agent's objects, and those that conflict with its names; Secrets as the operator reads them."""
    readable = [each for each in CHILDREN if each is not SECRET]
    lists = await asyncio.gather(*(_list(cluster, each, agent.namespace) for each in readable))
    listed = [document for documents in lists for document in documents if owner.owns(document)]
    observed: dict[Name, Document] = {(each["kind"], each["metadata"]["name"]): each for each in listed}
    missing = [(each["kind"], each["metadata"]["name"]) for each in wanted if each["kind"] != SECRET.kind]
    missing = [name for name in missing if name not in observed]
    got = await asyncio.gather(*(cluster.get(BY_KIND[kind], agent.namespace, name) for kind, name in missing))
    observed |= {name: document for name, document in zip(missing, got, strict=True) if document is not None}
    reader = Cluster(cluster.connection, Metrics())
    for name in sorted(secret_cache.ours(agent.name, wanted, observed)):
        document = await reader.read_secret(agent.namespace, name)
        if document is not None:
            observed[SECRET.kind, name] = document
    return observed


async def _list(cluster: Access, resource: Resource, namespace: str) -> list[Document]:
    try:
        return await cluster.list(resource, namespace, labelSelector=f"{MANAGED_BY}={OPERATOR}")
    except ApiError as error:
        if error.code == HTTPStatus.NOT_FOUND and resource.optional:
            return []
        raise


async def _try(cluster: Access, plan: Plan, observed: Mapping[Name, Document], found: Difference) -> None:
    found.changes += [Change(observed[step.kind, step.name], None) for step in plan.deletes]
    results = await asyncio.gather(*(_dry_run(cluster, step) for step in plan.applies), return_exceptions=True)
    for step, result in zip(plan.applies, results, strict=True):
        name = step.document["metadata"]["name"]
        if isinstance(result, ApiError) and not _lacks_permission(result):
            found.problems.append(f"{step.kind} {name} would be refused: {result.message}")
        elif isinstance(result, BaseException):
            raise result
        else:
            found.changes.append(Change(observed.get((step.kind, name)), result))


def _lacks_permission(error: ApiError) -> bool:
    """Return whether the user lacks permission. A quota and admission, which refuse the operator too, also send 403."""
    return error.code == HTTPStatus.FORBIDDEN and " cannot patch resource " in error.message


async def _dry_run(cluster: Access, step: Apply) -> Document:
    """Return the object as the operator would apply it, with whole lists replaced where nothing else works."""
    resource = BY_KIND[step.kind]
    try:
        after, _ = await cluster.dry_run(resource, step.document, FIELD_MANAGER, APPLY)
    except ApiError as error:
        if error.code != HTTPStatus.UNPROCESSABLE_ENTITY or step.operation != "update":
            raise
        after, _ = await cluster.dry_run(resource, step.document, FIELD_MANAGER, MERGE)
    if step.keep_replicas is not None:
        after["spec"]["replicas"] = step.keep_replicas
    # The dry run covers only the apply. Before it, the operator takes ownership of what other clients added.
    return pruned(after, [each.path for each in step.foreign])
