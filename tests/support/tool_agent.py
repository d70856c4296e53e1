"""An agent with tools of an MCP server, and what tests read of its answers and of its questions to the model."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx

from stand_in import StandIn
from support.agent import KEY, MakeClient

Block = dict[str, Any]


async def agent_with(
    make_client: MakeClient, folder: Path, *entries: dict[str, Any], **settings: object
) -> httpx.AsyncClient:
    """Start an agent in this process whose definition of tools has these entries."""
    file = folder / "agent-tools.json"
    file.write_text(json.dumps({"tools": list(entries)}), encoding="utf-8")
    return await make_client(tools_file=file, **settings)


def process_settings(folder: Path, stand_in: StandIn, *entries: dict[str, Any]) -> dict[str, str]:
    """Return the environment of an agent in a process of its own whose definition of tools has these entries."""
    file = folder / "tools.json"
    file.write_text(json.dumps({"tools": list(entries)}), encoding="utf-8")
    return {
        "ANTHROPIC_API_KEY": KEY,
        "ANTHROPIC_BASE_URL": stand_in.url,
        "TOOLS_FILE": str(file),
        "RATE_LIMIT_REQUESTS": "0",
        "MAX_IN_FLIGHT_PER_CLIENT": "100",
    }


async def chat(client: httpx.AsyncClient, message: str, conversation_id: str | None = None) -> dict[str, Any]:
    """Send a message, and return the answer."""
    body = {"message": message} | ({"conversation_id": conversation_id} if conversation_id else {})
    answer = await client.post("/chat", json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def stream(client: httpx.AsyncClient, message: str) -> list[dict[str, Any]]:
    """Send a message, and return the events of the answer."""
    answer = await client.post("/chat/stream", json={"message": message}, timeout=60)
    assert answer.status_code == 200, answer.text
    return [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")]


def questions(stand_in: StandIn) -> list[dict[str, Any]]:
    """Return the bodies of the questions to the model, oldest first; the stand-in keeps none above 64 KiB."""
    return [json.loads(request["body"]) for request in stand_in.requests() if request["body"]]


def blocks(message: dict[str, Any]) -> list[Block]:
    """Return the blocks of a message of a question, without marks for the cache."""
    content = message["content"]
    found = [{"type": "text", "text": content}] if isinstance(content, str) else content
    return [{name: value for name, value in block.items() if name != "cache_control"} for block in found]


def results(question: dict[str, Any]) -> list[Block]:
    """Return the results of tools in the last message of a question."""
    return [block for block in blocks(question["messages"][-1]) if block["type"] == "tool_result"]


def calls_of(*names: str, **given: Any) -> list[dict[str, Any]]:
    """Return calls of these tools with the same input, for one step."""
    return [{"name": name, "input": given} for name in names]


def texts(answers: Sequence[Block]) -> list[str]:
    """Return the text of each result."""
    return ["".join(part["text"] for part in block["content"] if part["type"] == "text") for block in answers]
