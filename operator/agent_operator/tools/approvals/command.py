"""The commands `approvals`, `approve` and `reject`."""

import asyncio
import json
import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

import click

from agent_operator.api.yaml import to_yaml
from agent_operator.tools.approvals.calls import Place, Waiting, outcome, to_documents, to_text
from agent_operator.tools.errors import ToolError
from agent_operator.tools.options import cluster, reports_errors
from agent_operator.tools.terminal import show

if TYPE_CHECKING:
    from agent_operator.tools.approvals.pods import AgentPods
    from agent_operator.tools.cluster import Access, Target

T = TypeVar("T")

# The answer to a decision is the rest of the turn: the longest that a spec allows, with a margin.
_TURN_SECONDS = 3700.0


@click.command(no_args_is_help=True)
@click.argument("name")
@click.option("-o", "--output", type=click.Choice(["text", "json", "yaml"]), default="text", show_default=True)
@cluster
@reports_errors
def approvals(*, name: str, output: str, namespace: str | None, context: str | None, kubeconfig: str | None) -> None:
    """List the tool calls of an agent that wait for an approval, and on which you may decide.

    The agent needs client keys; yours is the first one in the environment variable API_KEYS. You need permission to
    list pods and to get pods/proxy.

    \b
    Examples:
      approvals my-agent -n prod
      approvals my-agent -o json
    """
    from agent_operator.tools.cluster import Target  # noqa: PLC0415  takes a second

    calls = [call for _, call in asyncio.run(_waiting(Target(kubeconfig, context, namespace), name))]
    if output == "json":
        show(json.dumps(to_documents(calls), indent=2, ensure_ascii=False))
    elif output == "yaml":
        show(to_yaml(to_documents(calls)), newline=False)
    else:
        show(to_text(calls, datetime.now(UTC)) if calls else "No tool call waits for an approval.")


def _decision(command: Callable[..., T]) -> Callable[..., T]:
    """Add what `approve` and `reject` have in common."""
    for add in (
        click.option("--task", metavar="ID", help="The same, for calls of a task."),
        click.option("--conversation", metavar="ID", help="Where the calls wait, for an agent without client keys."),
        click.argument("ids", nargs=-1, required=True, metavar="ID..."),
        click.argument("name"),
    ):
        command = add(command)
    return command


@click.command(no_args_is_help=True)
@_decision
@cluster
@reports_errors
def approve(*, name: str, ids: tuple[str, ...], conversation: str | None, task: str | None, **target: Any) -> None:
    """Approve tool calls that wait, by their IDs, and print how the turn continues.

    The turn goes on when all of its calls are decided. `approvals` lists the IDs, and the answer that waits has them
    too. Your client key is the first one in API_KEYS. You need permission to list pods and to create pods/proxy.

    \b
    Examples:
      approve my-agent 01934c2e-7b1a-7c3d-8e4f-5a6b7c8d9e0f.1
      approve my-agent ID --conversation 2543dd6b-28f2-402e-ab56-7f9b31a833fc
    """
    _decide(name, ids, _place(conversation, task), {"approve": True}, target)


@click.command(no_args_is_help=True)
@_decision
@click.option("--reason", metavar="TEXT", help="Reason, which the model receives.")
@cluster
@reports_errors
def reject(
    *, name: str, ids: tuple[str, ...], conversation: str | None, task: str | None, reason: str | None, **target: Any
) -> None:
    """Reject tool calls that wait, by their IDs, and print how the turn continues.

    The model learns of the rejection. For the rest, see `approve`.

    \b
    Examples:
      reject my-agent 01934c2e-7b1a-7c3d-8e4f-5a6b7c8d9e0f.1 --reason "Too expensive."
    """
    decision = {"approve": False} | ({"reason": reason} if reason else {})
    _decide(name, ids, _place(conversation, task), decision, target)


def _place(conversation: str | None, task: str | None) -> Place | None:
    if conversation is not None and task is not None:
        raise click.UsageError("Specify either --conversation or --task.")
    if task is not None:
        return Place("task", task)
    return Place("conversation", conversation) if conversation is not None else None


def _decide(name: str, ids: Sequence[str], place: Place | None, decision: dict[str, Any], target: Any) -> None:
    from agent_operator.tools.cluster import Target  # noqa: PLC0415  takes a second

    asyncio.run(_send(Target(**target), name, ids, place, decision))


async def _waiting(target: "Target", name: str) -> list[tuple[str, Waiting]]:
    from agent_operator.tools.cluster import access  # noqa: PLC0415  takes a second

    async with access(target) as cluster:
        return await _pods(cluster, name).waiting()


async def _send(target: "Target", name: str, ids: Sequence[str], place: Place | None, decision: dict[str, Any]) -> None:
    from agent_operator.tools.cluster import access  # noqa: PLC0415  takes a second

    async with access(target, seconds=_TURN_SECONDS) as cluster:
        pods = _pods(cluster, name)
        listed = {} if place is not None else {call.id: (pod, call.place) for pod, call in await pods.waiting()}
        for each in ids if place is None else ():
            if each not in listed:
                raise ToolError(
                    f"No call {each} on which you may decide waits at agent {name}; it may have been decided or have "
                    f"expired. `kubectl agent approvals {name}` lists those that wait."
                )
        for each in ids:
            pod, where = (None, place) if place is not None else listed[each]
            answer = await pods.decide(where, {"id": each, **decision}, pod)
            for line in outcome(each, answer, approve=decision["approve"]):
                show(line)


def _pods(cluster: "Access", name: str) -> "AgentPods":
    from agent_operator.tools.agent_api import KEYS, first_key  # noqa: PLC0415  takes a second
    from agent_operator.tools.approvals.pods import AgentPods  # noqa: PLC0415

    return AgentPods(cluster, name, first_key(os.environ.get(KEYS)))
