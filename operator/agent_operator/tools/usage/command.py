"""The command `usage`."""

import asyncio
import os
from datetime import UTC, datetime

import click

from agent_operator.tools.options import cluster, reports_errors
from agent_operator.tools.terminal import show


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("-A", "--all-namespaces", "everywhere", is_flag=True, help="Read the agents of all namespaces.")
@click.option(
    "--since", default="30d", show_default=True, metavar="PERIOD", help="First day: 7d or 24h ago, or 2026-11-01."
)
@click.option("--until", metavar="DAY", help="Last day, such as 2026-11-30. Today by default.")
@click.option("-o", "--output", type=click.Choice(["table", "csv", "json"]), default="table", show_default=True)
@cluster
@reports_errors
def usage(
    *,
    names: tuple[str, ...],
    everywhere: bool,
    since: str,
    until: str | None,
    output: str,
    namespace: str | None,
    context: str | None,
    kubeconfig: str | None,
) -> None:
    """Show what each client has used: of the named agents, or of all agents of the namespace. Days are whole, in UTC.

    For named agents, the key of a client in auth.usageReaders is the first one in API_KEYS. Otherwise it is read from
    the Secret of each agent. You need permission to list pods and AgentDeployments and to get pods/proxy, and without
    API_KEYS to get the Secrets. Exit code 0, 1 if an agent could not be read, 2 if nothing could be determined.

    \b
    Examples:
      usage my-agent --since 7d
      usage -A --since 2026-11-01 --until 2026-11-30 -o csv
    """
    from agent_operator.tools.agent_api import KEYS, first_key  # noqa: PLC0415  takes a second
    from agent_operator.tools.cluster import Target  # noqa: PLC0415
    from agent_operator.tools.usage.gather import gather  # noqa: PLC0415
    from agent_operator.tools.usage.rows import day, first_day, to_csv, to_json, to_table  # noqa: PLC0415

    if names and everywhere:
        raise click.UsageError("Specify either names of agents or --all-namespaces.")
    first = first_day(since, datetime.now(UTC))
    period = {"since": str(first)} | ({} if until is None else {"until": str(day(until))})
    # A key in the environment is not sent to agents that the user did not name: these may be of other owners.
    key = first_key(os.environ.get(KEYS)) if names else None
    found = asyncio.run(gather(Target(kubeconfig, context, namespace), names, period, everywhere=everywhere, key=key))
    if output == "json":
        show(to_json(found))
    elif output == "csv":
        show(to_csv(found), newline=False)
    else:
        show(to_table(found) if found else "No agents found.")
    for each in found:
        if each.problem is not None:
            show(f"Error: {each.namespace}/{each.agent}: {each.problem}", error=True)
        elif each.since is not None and each.since > first:
            show(f"Note: {each.namespace}/{each.agent} has its usage since {each.since} only.", error=True)
    raise SystemExit(int(any(each.problem is not None for each in found)))
