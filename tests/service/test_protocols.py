"""The same behaviours through every protocol: official clients against real processes, with the stand-in model."""

import asyncio
import threading
import uuid
from collections.abc import Iterator
from contextlib import aclosing
from functools import partial

import httpx
import pytest

from service.protocol_agents import (
    KEYS,
    LARGEST_BYTES,
    MOST_TOKENS,
    counted,
    echoed,
    running_agent,
    running_shop,
    texts,
    turns,
)
from stand_in import StandIn, asking
from support.agent import Service
from support.collector import Collector
from support.eventually import eventually
from support.mcp_servers import McpServer
from support.protocols import PROTOCOLS, Spoken
from support.protocols.client import RefusedError
from support.protocols.draining import Course, drained
from support.redis_server import RedisServer

pytestmark = [pytest.mark.timing, pytest.mark.parametrize("protocol", PROTOCOLS, ids=str)]

UNKNOWN_KEY = "sk-client-unknown-0123456789abcdef"
LIMIT = 10
HELD = asking("hello", hold="drained", after=3)
UNICODE = 'naïve 😀 漢字 \u2028 \\ " line\nend'


@pytest.fixture(scope="module")
def collector_process() -> Iterator[Collector]:
    made = Collector()
    thread = threading.Thread(target=made.server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


@pytest.fixture(scope="module")
def agent_process(
    stand_in_process: StandIn,
    redis_process: RedisServer,
    server_process: McpServer,
    collector_process: Collector,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("agent")
    with running_shop(folder, stand_in_process, redis_process, server_process, collector_process) as running:
        yield running


@pytest.fixture
def agent(agent_process: Service, stand_in: StandIn) -> Service:
    """Return the agent, shared by the tests of this file. Its tool `slow` needs an approval, `add` does not."""
    return agent_process


@pytest.fixture(scope="module")
def limited_process(
    stand_in_process: StandIn, redis_process: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    limits = {"RATE_LIMIT_REQUESTS": str(LIMIT), "STATE_PREFIX": "limited"}
    with running_agent(tmp_path_factory.mktemp("limited"), stand_in_process, redis_process, **limits) as running:
        yield running


@pytest.fixture(scope="module")
def courses(
    stand_in_process: StandIn, redis_process: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Course | BaseException]:
    """Return what the clients of each protocol saw while their process drained."""
    folder = tmp_path_factory.mktemp("draining")
    # Another agent: none of the other processes goes on with its tasks.
    with running_agent(folder, stand_in_process, redis_process, STATE_PREFIX="draining") as running:

        async def drain() -> None:
            running.terminate()
            await asyncio.to_thread(eventually, lambda: running.get("/health/ready").status_code == 503, "it drains")

        release = partial(stand_in_process.release, "drained")
        found = asyncio.run(drained(PROTOCOLS, running.url, KEYS, HELD, drain=drain, release=release))
        assert running.wait() == 0
    return found


def key(protocol: Spoken) -> str:
    return KEYS[protocol.name]


async def test_an_answer_is_whole(agent: Service, protocol: Spoken) -> None:
    async with protocol.connect(agent.url, key(protocol)) as client:
        answer = await client.ask("hello there")
    assert (answer.text, answer.tools, answer.waits) == (echoed("hello there"), (), ())


async def test_a_stream_arrives_while_the_model_still_answers(
    agent: Service, protocol: Spoken, stand_in: StandIn
) -> None:
    message = asking("hello", hold="rest", after=3)
    async with protocol.connect(agent.url, key(protocol)) as client, aclosing(client.stream(message)) as pieces:
        first = await anext(pieces)
        assert echoed(message).startswith(first)
        assert stand_in.last()["state"] == "running"
        stand_in.release("rest")
        received = [first]
        await texts(pieces, received)
    assert "".join(received) == echoed(message)
    assert len(received) > 1


async def test_a_conversation_has_its_history(agent: Service, protocol: Spoken, stand_in: StandIn) -> None:
    async with protocol.connect(agent.url, key(protocol)) as client:
        first = await client.ask("my name is Ada")
        second = await client.ask("and I like tea", after=first)
        third = await client.ask("who am I?", after=second)
    said = ["user: my name is Ada", f"assistant: {first.text}", "user: and I like tea", f"assistant: {second.text}"]
    assert stand_in.last()["history"] == said
    assert third.text == echoed("who am I?")


async def test_an_error_before_the_first_byte_is_the_clients_error(agent: Service, protocol: Spoken) -> None:
    async with protocol.connect(agent.url, key(protocol)) as client:
        with pytest.raises(RefusedError) as whole:
            await client.ask(asking("private words", fault=400))
        with pytest.raises(RefusedError) as streamed:
            await texts(client.stream(asking("private words", fault=400)), [])
    assert (whole.value.status, streamed.value.status) == (protocol.fault, protocol.stream_fault)
    for error in (whole.value, streamed.value):
        assert "refused the request (400)" in error.sentence
        assert "private words" not in error.sentence


async def test_an_error_after_the_first_byte_ends_the_stream_with_the_clients_error(
    agent: Service, protocol: Spoken
) -> None:
    received: list[str] = []
    async with protocol.connect(agent.url, key(protocol)) as client:
        with pytest.raises(RefusedError, match="refused the request"):
            await texts(client.stream(asking("hello", error="invalid_request_error", after=3)), received)
    text = 'Stand-in heard "hello '
    assert "".join(received) == text if protocol.reports_every_piece else text.startswith(received[0])


async def test_an_unknown_key_is_rejected(agent: Service, protocol: Spoken, stand_in: StandIn) -> None:
    with pytest.raises(RefusedError, match="key") as refused:
        async with protocol.connect(agent.url, UNKNOWN_KEY) as client:
            await client.ask("hello")
    assert refused.value.status == protocol.unknown_key
    assert stand_in.requests() == []


async def test_a_client_over_its_limit_learns_when_to_retry(
    limited_process: Service, protocol: Spoken, stand_in: StandIn
) -> None:
    url = limited_process.url
    async with (
        httpx.AsyncClient(base_url=url, headers={"X-API-Key": key(protocol)}) as spending,
        protocol.connect(url, key(protocol)) as client,
    ):
        await client.ask("hello")
        asked = len(stand_in.requests())
        while (await spending.get("/")).status_code == httpx.codes.OK:
            pass
        with pytest.raises(RefusedError, match=f"{LIMIT} requests per minute") as refused:
            await client.ask("one too many")
    assert refused.value.status == protocol.limited
    assert 0 < (refused.value.retry_after or 0) <= 60 / LIMIT
    values = [refused.value.headers.get(name, "") for name in protocol.limit_headers]
    assert values[:2] == [str(LIMIT), "0"][: len(values)]
    assert all(values)
    assert len(stand_in.requests()) == asked


async def test_an_oversized_input_is_refused(agent: Service, protocol: Spoken, stand_in: StandIn) -> None:
    async with protocol.connect(agent.url, key(protocol)) as client:
        with pytest.raises(RefusedError, match=r"characters|tokens") as too_long:
            await client.ask("x" * (4 * MOST_TOKENS + 4))
        with pytest.raises(RefusedError, match=f"{LARGEST_BYTES} bytes") as too_large:
            await client.ask("x" * LARGEST_BYTES)
        assert (await client.ask("hello")).text == echoed("hello")
    assert (too_long.value.status, too_large.value.status) == (protocol.too_long, protocol.too_large)
    assert len(stand_in.requests()) == 1


async def test_a_client_that_leaves_ends_the_call_to_the_model(
    agent: Service, protocol: Spoken, stand_in: StandIn
) -> None:
    before = turns(agent, protocol)
    async with protocol.connect(agent.url, key(protocol)) as client:
        async with aclosing(client.stream(asking("hello", hold="stream", after=3))) as pieces:
            await anext(pieces)
        whole = asyncio.create_task(client.ask(asking("hello", hold="whole")))
        await asyncio.to_thread(eventually, lambda: len(stand_in.requests()) == 2, "the model is asked")
        whole.cancel()
        await asyncio.wait([whole])
        await asyncio.to_thread(
            eventually, lambda: agent.metric("agent_requests_in_flight") == 0, "nothing is in flight any more"
        )
    if protocol.outlives_connection:
        stand_in.release("stream")
        stand_in.release("whole")
    ended, outcome = ("done", "ok") if protocol.outlives_connection else ("disconnected", "cancelled")
    await asyncio.to_thread(
        eventually, lambda: [seen["state"] for seen in stand_in.requests()] == [ended] * 2, f"the calls are {ended}"
    )
    await counted(agent, protocol, before, **{outcome: 2})


def test_a_draining_process_ends_its_stream_whole_and_refuses_new_requests(
    courses: dict[str, Course | BaseException], protocol: Spoken
) -> None:
    course = courses[protocol.name]
    if isinstance(course, BaseException):
        raise course
    assert "".join(course.received) == echoed(HELD)
    assert course.refused is not None
    assert "shutting down" in course.refused.sentence
    assert course.refused.status == protocol.draining


async def test_characters_of_all_planes_arrive_and_return_unchanged(
    agent: Service, protocol: Spoken, stand_in: StandIn
) -> None:
    received: list[str] = []
    async with protocol.connect(agent.url, key(protocol)) as client:
        answer = await client.ask(UNICODE)
        await texts(client.stream(UNICODE), received)
    assert [seen["message"] for seen in stand_in.requests()] == [UNICODE] * 2
    assert answer.text == "".join(received) == echoed(UNICODE)


async def test_the_agents_own_tool_calls_are_shown_in_the_protocols_form(agent: Service, protocol: Spoken) -> None:
    message = asking("sum", calls=[[{"name": "add", "input": {"a": 2, "b": 3}}]])
    received: list[str] = []
    async with protocol.connect(agent.url, key(protocol)) as client:
        answer = await client.ask(message)
        await texts(client.stream(message), received)
    assert answer.tools == ("add",)
    assert answer.text.endswith("Results: 5.")
    assert "".join(received).endswith("Results: 5.")


async def test_a_call_that_needs_an_approval_waits_for_it_and_then_runs(
    agent: Service, protocol: Spoken, server: McpServer
) -> None:
    message = asking("please", calls=[[{"name": "slow", "input": {"duration": 0, "label": "tea"}}]])
    async with protocol.connect(agent.url, key(protocol)) as client:
        asked = await client.ask(message)
        assert asked.waits == ("slow",)
        assert server.recorded() == []
        answer = await client.approve(asked)
    assert answer.waits == ()
    assert answer.text.endswith("Results: slept tea.")
    assert [each["event"] for each in server.recorded()] == ["started", "finished"]


async def test_turns_are_counted_by_protocol_and_outcome(agent: Service, protocol: Spoken) -> None:
    before = turns(agent, protocol)
    async with protocol.connect(agent.url, key(protocol)) as client:
        await client.ask("hello")
        await texts(client.stream("hello"), [])
        with pytest.raises(RefusedError):
            await client.ask(asking(fault=400))
    await counted(agent, protocol, before, ok=2, refused=1)


async def test_neither_logs_nor_spans_have_the_text_of_messages(
    agent: Service, protocol: Spoken, collector_process: Collector
) -> None:
    private = f"private-{uuid.uuid4()}"
    collector_process.bodies.clear()
    async with protocol.connect(agent.url, key(protocol)) as client:
        await client.ask(private)
        await texts(client.stream(private), [])
        for ask in (client.ask, lambda message: texts(client.stream(message), [])):
            with pytest.raises(RefusedError):
                await ask(asking(private, error="invalid_request_error", after=3))

    def turns_ended() -> bool:
        return len([span for span in collector_process.spans() if span.name == "chat claude-sonnet-5-5"]) >= 4

    await asyncio.to_thread(eventually, turns_ended, "the spans arrive")
    assert private.encode() not in b"".join(collector_process.bodies)
    last = agent.get("/").headers["X-Request-ID"]
    log = await asyncio.to_thread(eventually, lambda: agent.log() if last in agent.log() else None, "the log is there")
    assert private not in log
