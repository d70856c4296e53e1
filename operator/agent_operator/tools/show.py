"""`kubectl agent show`: each effective value of an agent, and where it comes from."""

import json
from dataclasses import asdict, dataclass
from typing import Any

from agent_operator.classes.choice import Applied, Classes
from agent_operator.classes.defaults import Origin, document_of, origins_of, values
from agent_operator.tools.cluster import Target, access
from agent_operator.tools.live_agent import live_agent
from agent_operator.tools.live_classes import applied, in_cluster

MASK = "***"
# Longer values are cut in the table; the JSON output has them whole.
LONGEST = 60


@dataclass(frozen=True)
class Value:
    """A value of the effective spec: its path, its origin, and the value itself with secrets masked."""

    field: str
    origin: Origin
    value: Any


@dataclass(frozen=True)
class Shown:
    """An agent with its values. `refusal` is why its class refuses it: the values are then not in effect."""

    namespace: str
    name: str
    class_name: str | None
    values: list[Value]
    refusal: str | None


async def show_agent(target: Target, name: str, classes: Classes | None) -> Shown:
    """Return the effective values of an agent in the cluster. `classes` replace those of the cluster.

    Raises ToolError.
    """
    async with access(target) as cluster:
        agent, document = await live_agent(cluster, name)
        known = classes if classes is not None else await in_cluster(cluster)
    return shown(applied(agent, known, document.get("status") or {}))


def shown(found: Applied) -> Shown:
    """Return the values of an agent with its class. Pure."""
    spec = found.agent.spec
    # Without a class, or with one that could not be applied, the spec has its own values and those of the schema.
    origins = found.origins if found.refusal is None and found.origins else origins_of(spec)
    listed = [Value(path, origins.get(path, "spec"), _masked(path, value)) for path, value in values(document_of(spec))]
    refusal = None if found.refusal is None else str(found.refusal)
    return Shown(found.agent.namespace, found.agent.name, found.name, listed, refusal)


def _masked(path: str, value: Any) -> Any:
    """Return the value with `***` in place of what may be a secret: a key, and values of variables."""
    if path == "apiKey.value":
        return MASK
    if isinstance(value, list):
        return [_masked(path, each) for each in value]
    if isinstance(value, dict):
        secret = "value" if "name" in value else None
        return {key: MASK if key == secret else _masked(path, each) for key, each in value.items()}
    return value


def to_json(agent: Shown) -> str:
    """Return the agent as JSON: `{namespace, name, class, refusal, values}`."""
    document = {
        "namespace": agent.namespace,
        "name": agent.name,
        "class": agent.class_name,
        "refusal": agent.refusal,
        "values": [asdict(each) for each in agent.values],
    }
    return json.dumps(document, indent=2, ensure_ascii=False)


def to_text(agent: Shown) -> str:
    """Return the agent as a table of its values."""
    of_class = "no class" if agent.class_name is None else f"the class {agent.class_name}"
    rows = [("FIELD", "ORIGIN", "VALUE"), *((each.field, each.origin, _short(each.value)) for each in agent.values)]
    field, origin = (max(len(row[column]) for row in rows) for column in (0, 1))
    table = [f"{row[0]:<{field}}  {row[1]:<{origin}}  {row[2]}" for row in rows]
    return "\n".join([f"Agent {agent.name} in namespace {agent.namespace} has {of_class}.", "", *table])


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
