"""Conversations: memory of earlier messages, its bounds, and what happens without Redis."""

import asyncio
import json
from pathlib import Path

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent_service.agent.messages import Exchange
from agent_service.chat.conversations import Conversations, new_id
from agent_service.state.redis import Redis
from stand_in import StandIn, asking
from support.agent import KEY, MakeClient, StartService
from support.eventually import eventually
from support.redis_server import RedisServer, running_redis


async def say(client: httpx.AsyncClient, message: str, conversation_id: str | None = None) -> dict[str, object]:
    body = {"message": message} | ({"conversation_id": conversation_id} if conversation_id else {})
    answer = await client.post("/chat", json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, object] = answer.json()
    return found


async def stream(client: httpx.AsyncClient, message: str, conversation_id: str) -> dict[str, object]:
    answer = await client.post("/chat/stream", json={"message": message, "conversation_id": conversation_id})
    events = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")]
    last: dict[str, object] = events[-1]
    assert last["type"] in {"done", "error"}
    return last


async def test_the_model_receives_the_earlier_messages(make_client: MakeClient, stand_in: StandIn) -> None:
    client = await make_client()
    first = await say(client, "I am Ada")
    second = await say(client, "who am I", str(first["conversation_id"]))
    assert second["conversation_id"] == first["conversation_id"]
    assert stand_in.last()["history"] == ["user: I am Ada", f"assistant: {first['response']}"]
    done = await stream(client, "and now", str(first["conversation_id"]))
    assert done["conversation_id"] == first["conversation_id"]
    assert [text.split(": ")[1] for text in stand_in.last()["history"][::2]] == ["I am Ada", "who am I"]


async def test_a_stream_is_remembered_as_it_was_sent(make_client: MakeClient, stand_in: StandIn) -> None:
    client = await make_client()
    done = await stream(client, asking("count", words=5), "unknown")
    assert done["conversation_id"] != "unknown"
    await say(client, "more", str(done["conversation_id"]))
    assert stand_in.last()["history"][0] == "user: " + asking("count", words=5)
    assert stand_in.last()["history"][1].startswith("assistant: Stand-in heard")


async def test_an_answer_that_broke_off_is_not_remembered(make_client: MakeClient, stand_in: StandIn) -> None:
    client = await make_client()
    known = str((await say(client, "hello"))["conversation_id"])
    assert (await stream(client, asking("broken", break_at=2), known))["type"] == "error"
    await say(client, "again", known)
    assert [text for text in stand_in.last()["history"] if "broken" in text] == []


EMPTY = [
    asking(empty=True),
    asking(blank=True),
    asking(empty=True, thinking=True),
    asking(empty=True, thinking=True, stop="max_tokens"),
]


@pytest.mark.parametrize("behaviour", EMPTY)
async def test_an_answer_without_text_does_not_end_its_conversation(
    make_client: MakeClient, stand_in: StandIn, behaviour: str
) -> None:
    client = await make_client()
    known = str((await say(client, "I am Ada"))["conversation_id"])
    empty = await say(client, f"nothing {behaviour}", known)
    assert str(empty["response"]).strip() == ""
    assert empty.get("stop_reason") == ("max_tokens" if "max_tokens" in behaviour else None)
    assert "no text" in str(empty["warning"])
    assert empty["conversation_id"] == known
    assert "no text" in str((await stream(client, f"nothing {behaviour}", known))["warning"])
    for message in ("who am I", "and now"):
        assert "warning" not in await say(client, message, known)
    assert [said.split(": ")[1] for said in stand_in.last()["history"][::2]] == ["I am Ada", "who am I"]


@pytest.mark.parametrize("behaviour", EMPTY)
async def test_a_conversation_can_begin_with_an_answer_without_text(make_client: MakeClient, behaviour: str) -> None:
    client = await make_client()
    known = str((await say(client, behaviour))["conversation_id"])
    await say(client, "again", str((await say(client, "hello", known))["conversation_id"]))


@pytest.mark.parametrize("field", ["message", "system_prompt"])
async def test_a_lone_surrogate_is_refused_before_it_is_stored(
    make_client: MakeClient, stand_in: StandIn, field: str
) -> None:
    client = await make_client()
    body = json.dumps({"message": "hello", field: "half \ud83d"})
    answer = await client.post("/chat/stream", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert stand_in.requests() == []


STORED = {
    "an empty answer": b'1 ["nothing",""]',
    "an answer of white space": b'1 ["nothing"," \\n\\u2028\\u00a0"]',
    "an empty question": b'1 ["  ","words"]',
    "no JSON": b"rubbish",
    "no tokens": b'["nothing","words"]',
    "a negative number of tokens": b'-5 ["nothing",""]',
    "one text": b'1 ["nothing"]',
    "three texts": b'1 ["nothing","words","more"]',
    "no text": b'1 ["nothing",null]',
    "numbers": b"1 [1,2]",
    "an object": b'1 {"nothing":1,"words":2}',
    "deep": b"1 " + b"[" * 5000,
    "no UTF-8": b'1 ["nothing","\xff"]',
    "nothing": b"",
}


@pytest.mark.parametrize("what", STORED)
async def test_a_stored_exchange_that_cannot_be_sent_is_skipped(
    make_client: MakeClient, stand_in: StandIn, redis_server: RedisServer, what: str
) -> None:
    client = await make_client()
    known = str((await say(client, "I am Ada"))["conversation_id"])
    key = redis_server.command("KEYS", f"*:conversation:*{known}").split(b"\r\n")[2].decode()
    redis = Redis(redis_server.url, prefix="test")
    await redis.call("RPUSH", key, STORED[what])
    await redis.close()
    for message in ("who am I", "and now"):
        assert "warning" not in await say(client, message, known)
    assert [said.split(": ")[1] for said in stand_in.last()["history"][::2]] == ["I am Ada", "who am I"]


async def test_stored_text_that_utf8_cannot_encode_is_repaired(
    make_client: MakeClient, stand_in: StandIn, redis_server: RedisServer
) -> None:
    client = await make_client()
    known = str((await say(client, "I am Ada"))["conversation_id"])
    key = redis_server.command("KEYS", f"*:conversation:*{known}").split(b"\r\n")[2].decode()
    redis = Redis(redis_server.url, prefix="test")
    await redis.call("RPUSH", key, b'1 ["half \\ud83d","whole \\ud83d\\ude00 and \\u0000"]')
    await redis.close()
    await say(client, "and now", known)
    assert stand_in.last()["history"][2:] == ["user: half \ufffd", "assistant: whole \U0001f600 and \ufffd"]


async def test_concurrent_requests_of_one_conversation_are_stored_as_whole_exchanges(
    make_client: MakeClient, stand_in: StandIn
) -> None:
    client = await make_client()
    known = str((await say(client, "start"))["conversation_id"])
    await asyncio.gather(*(say(client, asking(f"{number}", slow=0.01), known) for number in range(8)))
    await say(client, "end", known)
    history = stand_in.last()["history"]
    assert len(history) == 18
    for user, assistant in zip(history[::2], history[1::2], strict=True):
        assert user.startswith("user: ")
        assert f'heard "{user.removeprefix("user: ")}"' in assistant
    assert {user.split()[1] for user in history[2::2]} == {str(number) for number in range(8)}


async def test_the_oldest_messages_are_dropped_beyond_the_limit(make_client: MakeClient, stand_in: StandIn) -> None:
    client = await make_client(conversation_max_messages=4)
    known = str((await say(client, "message 0"))["conversation_id"])
    for number in range(1, 4):
        await say(client, f"message {number}", known)
    assert stand_in.last()["history"][::2] == ["user: message 1", "user: message 2"]


async def test_nothing_is_remembered_with_a_limit_of_zero_messages(make_client: MakeClient, stand_in: StandIn) -> None:
    client = await make_client(conversation_max_messages=0)
    known = str((await say(client, "hello"))["conversation_id"])
    assert (await say(client, "again", known))["conversation_id"] != known
    assert stand_in.last()["history"] == []


async def test_an_idle_conversation_expires(make_client: MakeClient, redis_server: RedisServer) -> None:
    client = await make_client(conversation_ttl_seconds=1)
    known = str((await say(client, "hello"))["conversation_id"])
    none = b"*0\r\n"
    await asyncio.to_thread(
        eventually, lambda: redis_server.command("KEYS", "*:conversation:*") == none, "the key expires"
    )
    assert (await say(client, "again", known))["conversation_id"] != known


def test_a_conversation_outlives_the_process_and_is_known_to_every_replica(
    start_service: StartService, stand_in: StandIn
) -> None:
    common = {"ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": stand_in.url}
    one, other = start_service(**common), start_service(**common)
    known = one.post("/chat", message="I am Ada").json()["conversation_id"]
    one.terminate()
    assert one.wait() == 0
    assert other.post("/chat", message="who am I", conversation_id=known).json()["conversation_id"] == known
    assert stand_in.last()["history"][0] == "user: I am Ada"


async def test_without_redis_chat_continues_and_warns_that_memory_is_unavailable(
    make_client: MakeClient, stand_in: StandIn, tmp_path: Path
) -> None:
    with running_redis(tmp_path) as server:
        client = await make_client(redis_url=server.url)
        known = str((await say(client, "I am Ada"))["conversation_id"])
        server.stop()
        lost = await say(client, "who am I", known)
        assert "memory" in str(lost["warning"])
        assert lost["conversation_id"] == known
        assert "memory" in str((await stream(client, "who am I", known))["warning"])
        assert "memory" in str((await say(client, "a newcomer"))["warning"])
        server.start()
        deadline = asyncio.get_running_loop().time() + 10
        while "warning" in await say(client, "back", known):
            assert asyncio.get_running_loop().time() < deadline
        await say(client, "who am I", known)
        assert stand_in.last()["history"][0] == "user: I am Ada"


async def test_a_frozen_redis_delays_only_one_request(make_client: MakeClient, tmp_path: Path) -> None:
    with running_redis(tmp_path) as server:
        client = await make_client(redis_url=server.url)
        known = str((await say(client, "hello"))["conversation_id"])
        server.freeze()
        async with asyncio.timeout(30):
            assert "warning" in await say(client, "one waits", known)
            for _ in range(50):
                assert "warning" in await say(client, "the others do not", known)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sizes=st.lists(st.integers(0, 30), max_size=12),
    max_exchanges=st.integers(1, 5),
    max_tokens=st.integers(1, 60),
)
async def test_the_newest_exchanges_that_fit_are_kept(
    redis_server: RedisServer, sizes: list[int], max_exchanges: int, max_tokens: int
) -> None:
    redis = Redis(redis_server.url, prefix="test")
    kept = Conversations(redis, max_messages=2 * max_exchanges, max_tokens=max_tokens, ttl_seconds=60)
    name = new_id()
    expected: list[int] = []
    for number, size in enumerate(sizes):
        await kept.append("ada", name, Exchange(str(number), "\u2028é\ud83d\ude00"), tokens=size)
        expected = [*expected, number][-max_exchanges:]
        while sum(sizes[index] for index in expected) > max_tokens:
            expected.pop(0)
        assert [int(exchange.user) for exchange in await kept.history("ada", name)] == expected
        assert await kept.history("eve", name) == ()
    await redis.close()
