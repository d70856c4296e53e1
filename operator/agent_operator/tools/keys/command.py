"""The command `keys`."""

import asyncio
import json
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from agent_operator.manifests.client_keys import new_key
from agent_operator.tools.keys.entries import Entry, added, finished, renamed, revoked, rotated
from agent_operator.tools.options import cluster, reports_errors
from agent_operator.tools.terminal import show

if TYPE_CHECKING:
    from agent_operator.tools.cluster import Target
    from agent_operator.tools.keys.secret import Change


@click.command(no_args_is_help=True)
@click.argument("name")
@click.option("--add", metavar="CLIENT", help="Add a client, and print its key.")
@click.option("--rotate", metavar="CLIENT", help="Add a further key of a client, and print it.")
@click.option("--finish", metavar="CLIENT", help="Remove all keys of a client but the newest.")
@click.option("--revoke", metavar="CLIENT", help="Remove all keys of a client.")
@click.option("--rename", nargs=2, metavar="CLIENT NAME", help="Name a client, which keeps what it has.")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
@cluster
@reports_errors
def keys(*, name: str, output: str, rename: tuple[str, str] | None, **given: Any) -> None:
    """List the clients that have a key of an agent, or change their keys. A key is shown only when it is made.

    Changes reach the pods without a restart, within a minute or two. A client is called by its name, or by the hash of
    a key without one. You need permission to get the AgentDeployment, and to get and patch its Secret.

    \b
    Examples:
      keys my-agent
      keys my-agent --add acme/web
      keys my-agent --rotate acme/web
      keys my-agent --finish acme/web
      keys my-agent --rename 9f86d081884c7d65 web
    """
    from agent_operator.tools.cluster import Target  # noqa: PLC0415  takes a second

    made = new_key()
    changes: dict[str, Change] = {}
    for option, change in (("add", partial(_added, key=made)), ("rotate", partial(_rotated, key=made))):
        if client := given.pop(option):
            changes[option] = partial(change, client=client)
    for option, remove in (("finish", finished), ("revoke", revoked)):
        if client := given.pop(option):
            changes[option] = partial(_removed, remove=remove, client=client)
    if rename:
        changes["rename"] = lambda found: renamed(found, *rename)
    if len(changes) > 1:
        raise click.UsageError("Specify one change at a time.")
    found = asyncio.run(_run(Target(**given), name, next(iter(changes.values()), None)))
    if changes.keys() & {"add", "rotate"}:
        show(made)
    elif not changes:
        rows = _rows(found)
        show(json.dumps(rows, indent=2) if output == "json" else _table(rows))


def _added(found: Sequence[Entry], *, client: str, key: str) -> list[Entry]:
    return added(found, client, key)


def _rotated(found: Sequence[Entry], *, client: str, key: str) -> list[Entry]:
    return rotated(found, client, key)


def _removed(found: Sequence[Entry], *, client: str, remove: Any) -> list[Entry]:
    return list(remove(found, client))


async def _run(target: "Target", name: str, change: "Change | None") -> list[Entry]:
    from agent_operator.tools.cluster import access  # noqa: PLC0415  takes a second
    from agent_operator.tools.keys.secret import KeysSecret  # noqa: PLC0415  takes a second

    async with access(target) as found:
        secret = KeysSecret(found, name)
        if change is None:
            return await secret.read()
        await secret.change(change)
        return []


def _rows(found: Sequence[Entry]) -> list[dict[str, Any]]:
    """Return a row for each client, with its id and the number of its keys."""
    ids = dict.fromkeys(entry.client_id for entry in found)
    rows = []
    for known in ids:
        of_client = [entry for entry in found if entry.client_id == known]
        name = next((entry.name for entry in of_client if entry.name is not None), None)
        rows.append({"client": name or known, "id": known, "keys": len(of_client)})
    return rows


def _table(rows: Sequence[dict[str, Any]]) -> str:
    if not rows:
        return "The Secret has no client key."
    header = {"client": "CLIENT", "id": "ID", "keys": "KEYS"}
    widths = {field: max(len(str(row[field])) for row in (header, *rows)) for field in header}
    lines = ["   ".join(str(row[field]).ljust(widths[field]) for field in header).rstrip() for row in (header, *rows)]
    return "\n".join(lines)
