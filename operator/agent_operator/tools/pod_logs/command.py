"""The command `logs`."""

import asyncio
import re

import click

from agent_operator.manifests.names import CONTAINER
from agent_operator.tools.options import cluster, reports_errors
from agent_operator.tools.terminal import show

_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?\Z")
# The exit code of a program that Ctrl-C ends, as of kubectl (128 + SIGINT).
INTERRUPTED = 130


def _seconds(_context: click.Context, _option: click.Parameter, value: str | None) -> int | None:
    """Return the seconds of a duration such as 90s, 5m or 1h30m."""
    match = _DURATION.match(value) if value else None
    if value is None:
        return None
    if match is None:
        raise click.BadParameter("should be a duration such as 90s, 5m or 1h30m.")
    hours, minutes, seconds = (int(each or 0) for each in match.groups())
    total = hours * 3600 + minutes * 60 + seconds
    if total == 0:
        raise click.BadParameter("should be longer than 0s.")
    return total


@click.command(no_args_is_help=True)
@click.argument("name")
@click.option("-f", "--follow", is_flag=True, help="Continue with new lines, also of new pods, until Ctrl-C.")
@click.option("--since", callback=_seconds, metavar="DURATION", help="Lines of this last time only, such as 5m.")
@click.option("--tail", type=click.IntRange(0), metavar="N", help="The last N lines of each container, before --turn.")
@click.option("--turn", "turns", multiple=True, metavar="ID", help="Lines of the turn or task with this ID only.")
@click.option("--request-id", "requests", multiple=True, metavar="ID", help="Lines of the request with this ID only.")
@click.option("-c", "--container", "containers", multiple=True, metavar="NAME", help="Agent and runtime by default.")
@cluster
@reports_errors
def logs(
    *,
    name: str,
    follow: bool,
    since: int | None,
    tail: int | None,
    turns: tuple[str, ...],
    requests: tuple[str, ...],
    containers: tuple[str, ...],
    namespace: str | None,
    context: str | None,
    kubeconfig: str | None,
) -> None:
    """Show the logs of all pods of an agent, workers included, ordered by time: of the agent and of its runtime.

    Each line begins with its pod and container. Lines of the runtime belong to a turn if they contain its ID. You need
    permission to list pods and to get pods/log.

    \b
    Examples:
      logs my-agent --since 5m
      logs my-agent -f -c runtime
      logs my-agent --request-id 4b1e
    """
    from agent_operator.tools.cluster import Target  # noqa: PLC0415  takes a second
    from agent_operator.tools.pod_logs.follow import Selection, read_logs  # noqa: PLC0415

    selection = Selection(follow=follow, seconds=since, tail=tail, ids=frozenset({*turns, *requests}))
    selection = Selection(**{**vars(selection), "containers": containers}) if containers else selection

    async def print_lines() -> None:
        async for line in read_logs(Target(kubeconfig, context, namespace), name, selection):
            colour = None if line.source.container == CONTAINER else "cyan"
            show(f"{line.source} {line.text}", colour=colour)

    try:
        asyncio.run(print_lines())
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None
