"""RUNTIME_PROTOCOL=http: no bytes of a client become a second request, another path, or another answer."""

import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager

import httpx
import pytest

from support.agent import Service, StartService
from support.eventually import eventually
from support.http_runtime import CLIENT_KEY, PROXY, HttpRuntime
from testbed.ports import free_port


@pytest.fixture
def runtime(http_runtime: HttpRuntime) -> HttpRuntime:
    return http_runtime


@pytest.fixture
def service(shared_proxy: Service) -> Service:
    return shared_proxy


def ask(service: Service, request: bytes) -> bytes:
    """Send bytes, and return everything received until the service closes, or is silent for a while."""
    with closing(socket.create_connection(("127.0.0.1", int(service.url.rsplit(":", 1)[1])), timeout=30)) as sock:
        sock.sendall(request)
        answer = b""
        while part := sock.recv(65536):
            answer += part
    return answer


def head(*lines: str, method: str = "POST", path: str = "/x") -> bytes:
    usual = [f"{method} {path} HTTP/1.1", "Host: agent", f"X-API-Key: {CLIENT_KEY}", "Connection: close"]
    return "\r\n".join([*usual, *lines, "", ""]).encode("latin-1")


SECOND = b"GET /second HTTP/1.1\r\nHost: agent\r\n\r\n"


@pytest.mark.parametrize(
    "lines",
    [
        ["Content-Length: 5", "Transfer-Encoding: chunked"],
        ["Transfer-Encoding: chunked", "Content-Length: 5"],
        ["Content-Length: 5", "Content-Length: 6"],
        ["Content-Length: 5", "Content-Length: 5"],
        ["Content-Length: 5, 5"],
        ["Content-Length: +5"],
        ["Content-Length: 0x5"],
        ["Content-Length: -5"],
        ["Transfer-Encoding: identity"],
        ["Transfer-Encoding: gzip, chunked"],
        ["Transfer-Encoding: chunked, identity"],
        ["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"],
        ["Transfer-Encoding: xchunked"],
        ["Transfer-Encoding : chunked"],
        ["Transfer-Encoding:\x0bchunked"],
        ["X-Folded: a", " b: c"],
        ["X-Folded: a", "\tTransfer-Encoding: chunked"],
        ["X-Line: a\rTransfer-Encoding: chunked"],
        ["X-Null: a\0b"],
    ],
)
def test_a_request_whose_end_is_not_certain_is_refused(
    service: Service, runtime: HttpRuntime, lines: list[str]
) -> None:
    answer = ask(service, head(*lines) + b"5\r\nhello\r\n0\r\n\r\n" + SECOND)
    assert not answer or answer.startswith(b"HTTP/1.1 400 "), answer
    assert answer.count(b"HTTP/1.1 ") <= 1
    assert runtime.seen == []


def test_lengths_named_in_connection_still_count(service: Service, runtime: HttpRuntime) -> None:
    lines = ["Content-Length: 5", "Connection: content-length, transfer-encoding, host, x-forwarded-for"]
    answer = ask(service, head(*lines) + b"hello")
    assert b'"length": 5' in answer
    assert runtime.header("Content-Length") == ["5"]
    assert len(runtime.header("Host")) == 1
    assert runtime.header("X-Forwarded-For") == ["127.0.0.1"]


def test_chunks_are_framed_again(service: Service, runtime: HttpRuntime) -> None:
    chunks = b"5;ext=1\r\nhello\r\n0\r\nX-Trailer: 1\r\nX-API-Key: 1\r\n\r\n"
    assert b'"length": 5' in ask(service, head("Transfer-Encoding: chunked", "Trailer: X-Trailer") + chunks)
    assert [seen["path"] for seen in runtime.seen] == ["/x"]
    assert not runtime.header_names() & {"x-trailer", "trailer"}


def test_pipelined_requests_are_each_checked(service: Service, runtime: HttpRuntime) -> None:
    first = head("Content-Length: 5").replace(b"Connection: close\r\n", b"")
    answer = ask(service, first + b"hello" + SECOND.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    assert answer.count(b"HTTP/1.1 200 ") == 1
    assert answer.count(b"HTTP/1.1 401 ") == 1
    assert [seen["path"] for seen in runtime.seen] == ["/x"]


def test_an_expectation_is_answered_by_the_agent(service: Service, runtime: HttpRuntime) -> None:
    answer = ask(service, head("Content-Length: 5", "Expect: 100-continue") + b"hello")
    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")
    assert "expect" not in runtime.header_names()


@pytest.mark.parametrize(
    "path",
    [
        "/../x",
        "/a/../../x",
        "/a/..",
        "/./x",
        "/%2e%2e/x",
        "/%2E./x",
        "/a%2f..%2fx",
        "/a\\..\\x",
        "/a%5c..%5cx",
        "/..;/x",
        "/a/%2e",
    ],
)
def test_a_path_with_dot_segments_is_refused(service: Service, runtime: HttpRuntime, path: str) -> None:
    answer = ask(service, head(method="GET", path=path))
    assert answer.startswith(b"HTTP/1.1 400 "), answer
    assert runtime.seen == []


@pytest.mark.parametrize(
    "path", ["//health", "/health/", "//chat", "/chat//stream", "/tasks%2f1", "/%2fdocs", "/\\chat"]
)
def test_another_spelling_of_a_reserved_path_is_not_passed_on(
    service: Service, runtime: HttpRuntime, path: str
) -> None:
    answer = ask(service, head(method="GET", path=path))
    assert answer.startswith(b"HTTP/1.1 404 "), answer
    assert runtime.seen == []


@pytest.mark.parametrize("target", ["http://elsewhere.example/x", "/x#fragment", "/x?q=%23"])
def test_only_the_path_of_a_target_counts(service: Service, runtime: HttpRuntime, target: str) -> None:
    answer = ask(service, head(method="GET", path=target))
    if answer.startswith(b"HTTP/1.1 200 "):
        assert runtime.seen[-1]["path"].startswith("/x")
        assert runtime.header("Host") == [runtime.url.removeprefix("http://")]
    else:
        assert answer.startswith(b"HTTP/1.1 400 "), answer


@pytest.mark.parametrize(("method", "target"), [("CONNECT", "elsewhere.example:80"), ("OPTIONS", "*"), ("GET", "x")])
def test_other_targets_are_refused(service: Service, runtime: HttpRuntime, method: str, target: str) -> None:
    answer = ask(service, head(method=method, path=target))
    assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 405 ")), answer
    assert runtime.seen == []


def test_characters_that_need_encoding_are_refused(service: Service, runtime: HttpRuntime) -> None:
    for target in ("/x?q=\xe9", "/\xe9"):
        assert ask(service, head(method="GET", path=target)).startswith(b"HTTP/1.1 400 ")
    assert runtime.seen == []


@contextmanager
def answering(port: int, answer: bytes) -> Iterator[None]:
    """Answer each connection with these bytes, as a runtime that does not keep to HTTP."""
    with closing(socket.create_server(("127.0.0.1", port))) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with closing(connection):
                    connection.recv(65536)
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (b"garbage\r\n\r\n", 502),
        (b"HTTP/1.1 200 OK\r\nX-Bad: a\x01b\r\nContent-Length: 0\r\n\r\n", 502),
        (b"HTTP/1.1 200 OK\r\nBad Name: a\r\nContent-Length: 0\r\n\r\n", 502),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n", 502),
        (b"HTTP/1.1 999 Strange\r\nContent-Length: 0\r\n\r\n", 502),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", 502),
        (b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 200),
        (b"HTTP/1.1 200 OK\r\n\r\nuntil the end", 200),
        (b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", 204),
        (b"", 503),
    ],
)
def test_a_runtime_that_does_not_keep_to_http(start_service: StartService, answer: bytes, status: int) -> None:
    port = free_port()
    service = start_service(**PROXY, RUNTIME_URL=f"http://127.0.0.1:{port}", REQUEST_TIMEOUT_SECONDS="2")
    with answering(port, answer):
        received = httpx.post(f"{service.url}/x", content=b"hello")
        assert received.status_code == status
        if status >= 500:
            assert "runtime" in received.json()["detail"]
        assert "Link" not in received.headers
        eventually(lambda: service.metric("agent_requests_in_flight") == 0, "nothing is left")
