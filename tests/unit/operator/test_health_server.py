"""The operator's port: other clients that connect to it do not starve probes and scrapes."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, closing

import pytest
from prometheus_client import CollectorRegistry

from agent_operator.controller import health_server
from testbed.ports import free_port


@asynccontextmanager
async def serving() -> AsyncIterator[int]:
    port = free_port()
    async with health_server.serve(port, lambda: None, lambda: False, CollectorRegistry()):
        yield port


async def ask(port: int, request: str, host: str = "127.0.0.1") -> bytes:
    async with asyncio.timeout(20):
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(f"{request}\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        answer = await reader.read()
        writer.close()
        return answer


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        ("GET /healthz HTTP/1.1", 200),
        ("HEAD /healthz HTTP/1.1", 200),
        ("GET /readyz HTTP/1.1", 503),
        ("GET /metrics HTTP/1.1", 200),
        ("HEAD /metrics HTTP/1.1", 200),
        ("GET /nothing HTTP/1.1", 404),
        ("POST /healthz HTTP/1.1", 405),
    ],
)
async def test_probes_and_scrapes_are_answered(request_line: str, status: int) -> None:
    async with serving() as port:
        assert (await ask(port, request_line)).startswith(f"HTTP/1.1 {status} ".encode())


@pytest.mark.parametrize(
    "sent", [b"", b"GET /healthz HTTP/1.1\r\nHost: a\r\nX-", b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"]
)
async def test_other_connections_are_closed_to_make_room_for_probes(sent: bytes) -> None:
    async with serving() as port:
        with ExitStack() as stack:
            socks = []
            for number in range(400):
                sock = socket.create_connection(("127.0.0.1", port), timeout=20)
                socks.append(stack.enter_context(closing(sock)))
                sock.sendall(sent)
                if number % 50 == 49:
                    assert (await ask(port, "GET /healthz HTTP/1.1")).startswith(b"HTTP/1.1 200 ")
            assert sum(map(is_open, socks)) <= 64


def is_open(sock: socket.socket) -> bool:
    sock.setblocking(False)
    try:
        while sock.recv(65536):
            pass
    except BlockingIOError:
        return True
    except ConnectionError:
        return False
    return False


@pytest.mark.skipif(not socket.has_ipv6, reason="There is no IPv6 here.")
async def test_both_address_families_are_served() -> None:
    async with serving() as port:
        for host in ("127.0.0.1", "::1"):
            assert (await ask(port, "GET /healthz HTTP/1.1", host)).startswith(b"HTTP/1.1 200 ")
