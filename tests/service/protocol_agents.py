"""What the tests of all protocols share: agents that speak them, and what they count."""

import asyncio
import json
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path

from prometheus_client import parser

from stand_in import StandIn
from support.agent import KEY, Service, running_service
from support.collector import Collector
from support.eventually import eventually
from support.mcp_servers import McpServer
from support.protocols import PROTOCOLS, Spoken
from support.redis_server import RedisServer

# A client of its own for each protocol, because limits are counted by client.
KEYS = {protocol.name: f"sk-client-{protocol.name}-0123456789abcdef" for protocol in PROTOCOLS}

LARGEST_BYTES = 100_000
MOST_TOKENS = 5000


@contextmanager
def running_agent(folder: Path, stand_in: StandIn, redis: RedisServer, **settings: str) -> Iterator[Service]:
    """Run an agent that answers in every protocol, without limits."""
    given = {
        "ANTHROPIC_API_KEY": KEY,
        "ANTHROPIC_BASE_URL": stand_in.url,
        "API_KEYS": ",".join(KEYS.values()),
        "API_MCP": "true",
        "API_RUNS_TASKS": "true",
        "RATE_LIMIT_REQUESTS": "0",
        "REDIS_URL": redis.url,
        "SYSTEM_PROMPT": "Be brief.",
    }
    with running_service(folder, **{**given, **settings}) as service:
        yield service


@contextmanager
def running_shop(
    folder: Path, stand_in: StandIn, redis: RedisServer, server: McpServer, collector: Collector
) -> Iterator[Service]:
    """Run an agent with the tools of a server, of which `slow` needs an approval, and with bounds of the input."""
    tools = folder / "tools.json"
    shop = {"name": "shop", "mcp": {"url": server.url}, "approve": ["sl*"]}
    tools.write_text(json.dumps({"tools": [shop]}), encoding="utf-8")
    settings = {
        "TOOLS_FILE": str(tools),
        "MAX_BODY_BYTES": str(LARGEST_BYTES),
        "API_MAX_BODY_BYTES": str(LARGEST_BYTES),
        "API_MAX_INPUT_TOKENS": str(MOST_TOKENS),
        "LOG_LEVEL": "DEBUG",
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_BSP_SCHEDULE_DELAY": "100",
    }
    with running_agent(folder, stand_in, redis, **settings) as service:
        yield service


def echoed(message: str) -> str:
    """Return the stand-in's answer to a message."""
    return f'Stand-in heard "{message}" (model claude-sonnet-5-5; system prompt "Be brief.").'


async def texts(pieces: AsyncGenerator[str, None], received: list[str]) -> None:
    """Add what a stream yields, as it arrives."""
    async with aclosing(pieces):
        async for piece in pieces:
            # A comprehension would lose what arrives before an error.
            received += [piece]


def turns(agent: Service, protocol: Spoken) -> dict[str, float]:
    """Return how many turns of a protocol ended, by outcome; those of all other protocols together are `others`."""
    found = {"others": 0.0}
    for family in parser.text_string_to_metric_families(agent.get("/metrics").text):
        for sample in family.samples:
            if sample.name == "agent_api_requests_total":
                name = sample.labels["outcome"] if sample.labels["api"] == protocol.label else "others"
                found[name] = found.get(name, 0) + sample.value
    return found


async def counted(agent: Service, protocol: Spoken, before: dict[str, float], **more: int) -> None:
    """Wait until exactly these turns are counted, by outcome: some are after the client has its answer."""
    expected = {**before, **{outcome: before.get(outcome, 0) + count for outcome, count in more.items()}}
    await asyncio.to_thread(eventually, lambda: turns(agent, protocol) == expected, f"the counts are {expected}")
