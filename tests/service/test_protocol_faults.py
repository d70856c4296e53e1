"""Clients of every protocol that are slow, half open or gone, while others get their answers from the same process."""

import asyncio
import json
import re
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, aclosing, closing, suppress
from dataclasses import dataclass

import httpx
import pytest

from service.protocol_agents import KEYS, counted, echoed, running_agent, turns
from stand_in import StandIn, asking
from support.agent import Service
from support.eventually import eventually
from support.protocols import PROTOCOLS, Spoken
from support.protocols.client import Answer
from support.protocols.wire import WIRES, Event, event_of
from support.raw_client import connect, forget_peak, is_open, peak_mebibytes
from support.redis_server import RedisServer
from support.relay import relaying

pytestmark = [pytest.mark.timing, pytest.mark.parametrize("protocol", PROTOCOLS, ids=str)]

NAMES = [protocol.name for protocol in PROTOCOLS]
BOUND_SECONDS = 10
BULK_MEBIBYTES = 2
# What the answers of all protocols at once may take while no client reads them. Measured: 45.
MOST_MEBIBYTES = 100
# With less, the bulk would be more than an answer may have.
MOST_TOKENS = "200000"
# All streams of a test at once, and MCP reports its text soon.
QUICK = {"WORKER_CONCURRENCY": "100", "STREAM_HEARTBEAT_SECONDS": "0.2"}


@pytest.fixture(scope="module")
def agent_process(
    stand_in_process: StandIn, redis_process: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    settings = {"STATE_PREFIX": "faults", "MAX_TOKENS": MOST_TOKENS, **QUICK}
    with running_agent(tmp_path_factory.mktemp("agent"), stand_in_process, redis_process, **settings) as running:
        yield running
        assert "Traceback" not in running.log()


@pytest.fixture
def agent(agent_process: Service, stand_in: StandIn) -> Service:
    """Return an agent with the usual bounds, shared by the tests of this file."""
    return agent_process


@pytest.fixture(scope="module")
def impatient_process(
    stand_in_process: StandIn, redis_process: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """Run an agent that bounds everything to a few seconds."""
    bounded = (
        "REQUEST_TIMEOUT_SECONDS",
        "STREAM_TIMEOUT_SECONDS",
        "TASK_TIMEOUT_SECONDS",
    )
    settings = {
        **dict.fromkeys(bounded, str(BOUND_SECONDS)),
        "STATE_PREFIX": "impatient",
        "WRITE_TIMEOUT_SECONDS": "2",
        "TASK_MAX_ATTEMPTS": "1",
        "MAX_TOKENS": MOST_TOKENS,
        **QUICK,
    }
    with running_agent(tmp_path_factory.mktemp("impatient"), stand_in_process, redis_process, **settings) as running:
        yield running
        assert "Traceback" not in running.log()


@pytest.fixture
async def http(agent: Service) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=agent.url, timeout=60) as client:
        yield client


async def none_in_flight(service: Service) -> None:
    await asyncio.to_thread(
        eventually, lambda: service.metric("agent_requests_in_flight ") == 0, "nothing is in flight any more"
    )


async def states(stand_in: StandIn, expected: set[str], word: str = "") -> None:
    """Wait until all requests to the model, of those with a word in their message, have one of these states."""

    def have() -> bool:
        seen = [each["state"] for each in stand_in.requests() if word in each["message"]]
        return bool(seen) and set(seen) <= expected

    await asyncio.to_thread(eventually, have, f"the calls of the model are {expected}")


# Disconnects.


async def leave(
    http: httpx.AsyncClient, protocol: Spoken, message: str, enough: Callable[[list[Event], str], bool]
) -> list[Event]:
    """Ask, disconnect once the client has enough events, or the text of them, and return them."""
    wire, found, text = WIRES[protocol.name], list[Event](), ""
    async with aclosing(wire.events(http, message, KEYS[protocol.name])) as events:
        async for event in events:
            found.append(event)
            text = wire.take(text, event)
            if enough(found, text):
                break
    return found


async def answer_of_task(http: httpx.AsyncClient, protocol: Spoken, found: list[Event]) -> str:
    """Return the answer of the task with which a stream of A2A began."""
    task_id = found[0].get("result", found[0])["task"]["id"]
    task = (await http.get(f"/tasks/{task_id}", headers={"X-API-Key": KEYS[protocol.name]})).json()
    response: str = task["result"]["response"]
    return response


def pieces(message: str) -> list[str]:
    """Return the pieces in which the model sends its answer."""
    return re.findall(r"\s*\S+\s*", echoed(message))


async def test_a_disconnect_at_any_event_ends_the_call_of_the_model_or_leaves_the_task(
    agent: Service, protocol: Spoken, stand_in: StandIn, http: httpx.AsyncClient
) -> None:
    """After each part of the text, and after each event before it."""
    before = turns(agent, protocol)
    count = len(pieces(asking("hello", hold="rest", after=1)))
    messages = [asking("hello", hold="rest", after=number) for number in range(1, count)]
    texts = ["".join(pieces(message)[:number]) for number, message in enumerate(messages, start=1)]
    reached = [
        leave(http, protocol, message, lambda _, text, expected=expected: text == expected)  # type: ignore[misc]
        for message, expected in zip(messages, texts, strict=True)
    ]
    first, *others = await asyncio.gather(*reached)
    early = range(1, len(first))
    await asyncio.gather(
        *(leave(http, protocol, messages[0], lambda seen, _, k=k: len(seen) == k) for k in early)  # type: ignore[misc]
    )
    await none_in_flight(agent)
    if protocol.outlives_connection:
        await states(stand_in, {"running"})
        stand_in.release("rest")
    await states(stand_in, {"done" if protocol.outlives_connection else "disconnected"})
    asked = len(messages) + len(early)
    assert len(stand_in.requests()) == asked
    await counted(agent, protocol, before, **{"ok" if protocol.outlives_connection else "cancelled": asked})
    if protocol.outlives_connection:
        for message, found in zip(messages, (first, *others), strict=True):
            assert await answer_of_task(http, protocol, found) == echoed(message)


async def test_a_disconnect_at_any_event_of_the_end_leaves_nothing_behind(
    agent: Service, protocol: Spoken, stand_in: StandIn, http: httpx.AsyncClient
) -> None:
    message = asking("hello", slow=0.01)
    whole = await leave(http, protocol, message, lambda *_: False)
    left = [
        leave(http, protocol, message, lambda seen, _, k=k: len(seen) == k)  # type: ignore[misc]
        for k in range(1, len(whole) + 1)
    ]
    await asyncio.gather(*left)
    await none_in_flight(agent)
    await states(stand_in, {"done", "disconnected"})
    assert len(stand_in.requests()) == len(whole) + 1


# Clients that read slowly, or not at all.


@dataclass
class Slow:
    """What happened to a client that does not read.

    `other` is the answer to another client meanwhile, and `received` the bytes that the first one found when it read
    again.
    """

    other: Answer
    received: int = 0


def bulk(name: str, word: str) -> str:
    return asking(f"{word} {name}.", bulk=BULK_MEBIBYTES)


@pytest.fixture(scope="module")
def unread(impatient_process: Service, stand_in_process: StandIn) -> dict[str, Slow]:
    """Return what happened to clients of each protocol that did not read."""
    service = impatient_process
    stand_in_process.reset()

    async def ask(protocol: Spoken) -> Answer:
        async with protocol.connect(service.url, KEYS[protocol.name]) as client:
            return await client.ask("meanwhile")

    async def run() -> dict[str, Slow]:
        # The first question of a protocol may load the libraries for it.
        for protocol in PROTOCOLS:
            await ask(protocol)
        before = forget_peak(service)
        async with AsyncExitStack() as stack:
            socks = []
            for name in NAMES:
                sock = stack.enter_context(closing(connect(service, reads=False)))
                sock.sendall(b"".join(WIRES[name].request(bulk(name, "unread"), KEYS[name])))
                socks.append(sock)
            assert all(map(is_open, socks))
            await asyncio.to_thread(
                eventually,
                lambda: sum("unread" in seen["message"] for seen in stand_in_process.requests()) == len(NAMES),
                "the model is asked for all",
            )
            found = [Slow(await ask(protocol)) for protocol in PROTOCOLS]
            await none_in_flight(service)
            await asyncio.to_thread(eventually, lambda: not any(map(is_open, socks)), "their connections are closed")
            for sock, each in zip(socks, found, strict=True):
                with suppress(ConnectionResetError):
                    while data := sock.recv(65536):
                        each.received += len(data)
        # Protocols that send the whole text at the end hold it.
        assert peak_mebibytes(service) - before < MOST_MEBIBYTES
        return dict(zip(NAMES, found, strict=True))

    return asyncio.run(run())


async def test_a_client_that_does_not_read_is_cut_off_and_others_get_their_answers(
    unread: dict[str, Slow], impatient_process: Service, protocol: Spoken, stand_in_process: StandIn
) -> None:
    found = unread[protocol.name]
    assert found.other.text == echoed("meanwhile")
    assert found.received < BULK_MEBIBYTES * 2**20
    await states(stand_in_process, {"done", "disconnected"}, f"unread {protocol.name}.")
    assert "Connections were closed" in impatient_process.log()


async def trickle(sock: socket.socket, enough: asyncio.Event) -> bytes:
    """Read a few bytes at a time until there was enough of that, and then the rest."""
    sock.setblocking(False)
    loop, received = asyncio.get_running_loop(), bytearray()
    while data := await loop.sock_recv(sock, 65536 if enough.is_set() else 10):
        received += data
        if not enough.is_set():
            await asyncio.sleep(0.01)
    return bytes(received)


async def test_a_client_that_reads_a_few_bytes_at_a_time_gets_the_whole_text(
    agent: Service, protocol: Spoken, stand_in: StandIn
) -> None:
    wire, enough, message = WIRES[protocol.name], asyncio.Event(), bulk(protocol.name, "slow")
    with closing(connect(agent, reads=False)) as sock:
        head, body = wire.request(message, KEYS[protocol.name])
        sock.sendall(head.replace(b"\r\n", b"\r\nConnection: close\r\n", 1) + body)
        reading = asyncio.create_task(trickle(sock, enough))
        async with protocol.connect(agent.url, KEYS[protocol.name]) as client:
            assert (await client.ask("meanwhile")).text == echoed("meanwhile")
        assert not reading.done()
        enough.set()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**20)
        received = await reading
    text = ""
    for line in dechunked(received).decode().splitlines():
        if line.startswith("data: "):
            text = wire.take(text, event_of(line))
    assert text == echoed(message) + (" " + "x" * (2**16 - 1)) * 16 * BULK_MEBIBYTES


def dechunked(answer: bytes) -> bytes:
    """Return the body of an answer that is sent in chunks (RFC 9112, 7.1)."""
    _, _, rest = answer.partition(b"\r\n\r\n")
    parts = []
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        parts.append(rest[: int(size, 16)])
        rest = rest[int(size, 16) + 2 :]
    return b"".join(parts)


# Half-open clients.


@dataclass
class HalfOpen:
    """What the service sent to a client that sent the half of a request: of its head, or of its body."""

    head: bytes
    body: bytes


@pytest.fixture(scope="module")
def half_open(impatient_process: Service) -> dict[str, HalfOpen]:
    """Return what clients of each protocol got."""

    async def half(sent: bytes) -> bytes:
        sock = connect(impatient_process)
        sock.setblocking(False)
        reader, writer = await asyncio.open_connection(sock=sock)
        async with asyncio.timeout(60):
            writer.write(sent)
            answer = await reader.read()
        writer.close()
        return answer

    async def all_halves() -> list[bytes]:
        requests = [WIRES[name].request("hello", KEYS[name]) for name in NAMES]
        heads = [half(head[: len(head) // 2]) for head, _ in requests]
        bodies = [half(head + body[: len(body) // 2]) for head, body in requests]
        return await asyncio.gather(*heads, *bodies)

    found = asyncio.run(all_halves())
    return {name: HalfOpen(found[number], found[number + len(NAMES)]) for number, name in enumerate(NAMES)}


def test_half_a_request_is_refused_in_time_in_the_protocols_form(
    half_open: dict[str, HalfOpen], impatient_process: Service, protocol: Spoken
) -> None:
    found = half_open[protocol.name]
    assert found.head.startswith(b"HTTP/1.1 408 ")
    head, _, body = found.body.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408 ")
    assert b"\r\nconnection: close" in head.lower()
    sentence = f"The request body did not arrive within {BOUND_SECONDS} seconds."
    answer = json.loads(body)
    assert sentence == (answer["error"]["message"] if protocol.name != "native" else answer["detail"])
    assert impatient_process.metric("agent_requests_in_flight ") == 0


# Clients that vanish.


ENDLESS = {"words": 5000, "slow": 0.05}
KINDS = ("frozen", "swallowed")


@pytest.fixture(scope="module")
def vanished(impatient_process: Service, stand_in_process: StandIn) -> None:
    """Let clients of each protocol vanish behind two relays: one takes what is sent to them, the other does not."""
    service = impatient_process
    stand_in_process.reset()

    async def vanish() -> None:
        async with AsyncExitStack() as stack:
            relays = []
            for kind in KINDS:
                relays.append(await stack.enter_async_context(relaying(int(service.url.rpartition(":")[2]))))
                http = await stack.enter_async_context(httpx.AsyncClient(base_url=relays[-1].url, timeout=60))
                for name in NAMES:
                    events = WIRES[name].events(http, asking(f"{kind} {name}.", **ENDLESS), KEYS[name])
                    await anext(await stack.enter_async_context(aclosing(events)))
            for kind, relay in zip(KINDS, relays, strict=True):
                relay.vanish(swallows=kind == "swallowed")
            await none_in_flight(service)

    asyncio.run(vanish())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.usefixtures("vanished")
async def test_the_answer_for_a_client_that_vanished_ends_in_time(
    impatient_process: Service, protocol: Spoken, stand_in_process: StandIn, kind: str
) -> None:
    await states(stand_in_process, {"disconnected"}, f"{kind} {protocol.name}.")
    async with protocol.connect(impatient_process.url, KEYS[protocol.name]) as client:
        assert (await client.ask("next")).text == echoed("next")
    await none_in_flight(impatient_process)
