"""No connection to the model API or to Redis: the answer, `/health` and the log each name the cause."""

import asyncio
import json
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.agent import MakeClient, StartService
from support.gateway import plain, running_gateway, whole
from testbed.certificates import Authority
from testbed.ports import free_port


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Return a private CA, as a company has."""
    return Authority(tmp_path_factory.mktemp("ca"))


def tls_of(authority: Authority, *names: str) -> ssl.SSLContext:
    pair = authority.issue("gateway", [], list(names))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    return context


async def causes(
    make_client: MakeClient, url: str, capsys: pytest.CaptureFixture[str], **given: Any
) -> tuple[str, str]:
    """Return the kind and the sentence of the cause, the same in the answer, `/health` and the log."""
    client = await make_client(anthropic_base_url=url, model_max_retries=0, **given)
    answer = await client.post("/chat", json={"message": "hello"})
    assert answer.status_code == 503, answer.text
    streamed = await client.post("/chat/stream", json={"message": "hello"})
    assert (streamed.status_code, streamed.json()) == (503, answer.json())
    component = await _checked(client, "model_api")
    assert component["status"] == "down"
    assert (component["kind"], component["detail"]) == (answer.json()["kind"], answer.json()["detail"])
    logged = capsys.readouterr().out
    assert logged.count(f"kind={component['kind']}") >= 3
    assert (await client.get("/health/ready")).status_code == 200
    assert 'outcome="unreachable"} 2.0' in (await client.get("/metrics")).text
    return answer.json()["kind"], answer.json()["detail"]


async def _checked(client: httpx.AsyncClient, name: str) -> dict[str, Any]:
    async with asyncio.timeout(30):
        while True:
            component: dict[str, Any] = (await client.get("/health")).json()["components"][name]
            if component["status"] != "unknown":
                return component
            await asyncio.sleep(0.02)


async def test_a_certificate_of_an_unknown_authority(
    make_client: MakeClient, authority: Authority, capsys: pytest.CaptureFixture[str]
) -> None:
    with running_gateway(lambda _: whole(), tls_of(authority, "127.0.0.1")) as gateway:
        kind, sentence = await causes(make_client, gateway.url, capsys)
    assert kind == "certificate"
    assert "SSL_CERT_FILE" in sentence
    assert gateway.asked == []


async def test_a_certificate_for_another_name(
    make_client: MakeClient, authority: Authority, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))
    with running_gateway(lambda _: whole(), tls_of(authority, "other.example")) as gateway:
        assert (await causes(make_client, gateway.url, capsys))[0] == "certificate"


async def test_a_certificate_file_that_cannot_be_loaded(
    make_client: MakeClient, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    rubbish = tmp_path / "ca.crt"
    rubbish.write_text("no certificate")
    for path in (str(rubbish), "/nowhere/ca.crt"):
        monkeypatch.setenv("SSL_CERT_FILE", path)
        kind, sentence = await causes(make_client, "https://127.0.0.1:1", capsys)
        assert kind == "certificate_file"
        assert path not in sentence


async def test_a_ca_in_ssl_cert_file_is_trusted(
    make_client: MakeClient, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))
    with running_gateway(lambda _: whole(), tls_of(authority, "127.0.0.1")) as gateway:
        client = await make_client(anthropic_base_url=gateway.url)
        assert (await client.post("/chat", json={"message": "hello"})).json()["response"] == "Hello"
        assert (await _checked(client, "model_api"))["status"] == "up"


@asynccontextmanager
async def _answering(answer: bytes) -> AsyncIterator[int]:
    """Yield a port that answers any input with these bytes and closes the connection."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(answer)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


@pytest.mark.parametrize(("answer", "kind"), [(b"HTTP/1.1 400 Bad Request\r\n\r\n", "tls"), (b"", "disconnected")])
async def test_a_port_that_does_not_speak_tls(
    make_client: MakeClient, capsys: pytest.CaptureFixture[str], answer: bytes, kind: str
) -> None:
    async with _answering(answer) as port:
        found, sentence = await causes(make_client, f"https://127.0.0.1:{port}", capsys)
    assert found == kind
    assert "scheme" in sentence


async def test_an_unknown_host_name(make_client: MakeClient, capsys: pytest.CaptureFixture[str]) -> None:
    kind, sentence = await causes(make_client, "http://models.invalid", capsys)
    assert kind == "dns"
    assert "models.invalid" not in sentence


async def test_a_port_without_a_listener(make_client: MakeClient, capsys: pytest.CaptureFixture[str]) -> None:
    kind, _ = await causes(make_client, f"http://127.0.0.1:{free_port()}", capsys)
    assert kind == "connection_refused"


@contextmanager
def full() -> Iterator[int]:
    """Yield a port that neither accepts nor refuses connections: its queue is full."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


async def test_an_address_that_does_not_answer(
    make_client: MakeClient, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent_service.agent.claude.session.CONNECT_SECONDS", 0.3)
    monkeypatch.setattr("agent_service.agent.claude.provider.CHECK_SECONDS", 0.3)
    with full() as port:
        assert (await causes(make_client, f"http://127.0.0.1:{port}", capsys))[0] == "connect_timeout"


PROXIES = ["http://127.0.0.1:{free}", "http://proxy.invalid:8080", "{gateway}"]


@pytest.mark.parametrize("proxy", PROXIES)
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_proxy_that_is_down_or_refuses(
    make_client: MakeClient,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    scheme: str,
    proxy: str,
) -> None:
    refusal = plain("407 Proxy Authentication Required", "text/html", b"<html>Who are you?</html>")
    with running_gateway(lambda _: refusal) as gateway:
        gateway.check = refusal
        url = proxy.format(free=free_port(), gateway=gateway.url)
        monkeypatch.setenv(f"{scheme}_proxy", url)
        kind, sentence = await causes(make_client, f"{scheme}://models.example", capsys)
    assert kind == "proxy"
    assert url not in sentence


def test_the_log_names_each_cause_once_per_change_and_never_a_key(
    start_service: StartService, authority: Authority
) -> None:
    with running_gateway(lambda _: whole(), tls_of(authority, "127.0.0.1")) as gateway:
        service = start_service(
            ANTHROPIC_API_KEY="sk-of-the-agent", ANTHROPIC_BASE_URL=gateway.url, MODEL_MAX_RETRIES="0"
        )
        assert service.post("/chat", message="hello").status_code == 503
        lines = [json.loads(line) for line in service.log().splitlines() if line.startswith("{")]
    [turn] = [line for line in lines if line["event"] == "Turn with the model failed"]
    assert (turn["outcome"], turn["kind"]) == ("unreachable", "certificate")
    assert "certificate verify failed" in turn["upstream"]
    assert "sk-of-the-agent" not in service.log()
    assert "Traceback" not in service.log()


async def cause_of_redis(make_client: MakeClient, address: str) -> tuple[str, str]:
    """Return the kind and the sentence that `/health` reports for a Redis that cannot be reached."""
    client = await make_client(redis_url=address)
    component = await _checked(client, "redis")
    assert component["status"] == "down"
    assert (await client.get("/health/ready")).status_code == 200
    return component["kind"], component["detail"]


async def test_a_redis_with_an_unknown_host_name(make_client: MakeClient) -> None:
    kind, sentence = await cause_of_redis(make_client, "redis://state.invalid:6379/0")
    assert kind == "dns"
    assert "state.invalid" not in sentence


async def test_a_redis_that_does_not_listen(make_client: MakeClient) -> None:
    assert (await cause_of_redis(make_client, f"redis://127.0.0.1:{free_port()}/0"))[0] == "connection_refused"


@pytest.mark.parametrize("name", ["127.0.0.1", "another.example"])
async def test_a_redis_whose_certificate_is_not_trusted(
    make_client: MakeClient, authority: Authority, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    if name == "another.example":
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))
    with running_gateway(lambda _: whole(), tls_of(authority, name)) as gateway:
        address = gateway.url.replace("https:", "rediss:") + "/0"
        kind, sentence = await cause_of_redis(make_client, address)
    assert kind == "certificate"
    assert "SSL_CERT_FILE" in sentence


async def test_a_redis_that_does_not_speak_tls(make_client: MakeClient) -> None:
    async with _answering(b"-ERR Protocol error\r\n") as port:
        kind, sentence = await cause_of_redis(make_client, f"rediss://127.0.0.1:{port}/0")
    assert kind == "tls"
    assert "scheme" in sentence
