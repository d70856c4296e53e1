"""One run of the doctor: select the agents, gather their evidence, return the reports."""

import asyncio

from agent_operator.api.agent import KIND
from agent_operator.kube.resources import AGENT
from agent_operator.tools.cluster import Target, access
from agent_operator.tools.doctor.diagnose import judge, undefined
from agent_operator.tools.doctor.gather import gather, is_defined, operators
from agent_operator.tools.doctor.report import STEPS, Finding, Report, Step
from agent_operator.tools.errors import ToolError

# Each agent takes about twenty requests.
AT_ONCE = 4


async def visit(target: Target, names: tuple[str, ...], *, everywhere: bool) -> list[Report]:
    """Check the named agents, or all of the namespace, or all of all namespaces; return the reports ordered by name.

    Raises ToolError if the cluster cannot be queried, or has no agent with one of the names.
    """
    async with access(target) as cluster:
        if not await is_defined(cluster):
            return [_without_definition(cluster.namespace, name) for name in names or ("(any)",)]
        agents = await cluster.list(AGENT, None if everywhere else cluster.namespace)
        there = {each["metadata"]["name"] for each in agents}
        missing = sorted(set(names) - there)
        if missing:
            known = f"it has {', '.join(sorted(there)[:10])}" if there else "it has none"
            raise ToolError(f"{KIND} {missing[0]} not found in namespace {cluster.namespace}: {known}.")
        chosen = [each for each in agents if not names or each["metadata"]["name"] in names]
        leases, unseen = await operators(cluster)
        slots = asyncio.Semaphore(AT_ONCE)

        async def report(agent: dict[str, object]) -> Report:
            async with slots:
                return judge(await gather(cluster, agent, leases, unseen))

        return list(await asyncio.gather(*map(report, chosen)))


def _without_definition(namespace: str, name: str) -> Report:
    finding: Finding = undefined()
    steps = [Step("definition", "wrong", finding.message), *(Step(each, "waits", "") for each in STEPS[1:])]
    return Report(namespace, name, ready=False, steps=steps, findings=[finding], unseen={})
