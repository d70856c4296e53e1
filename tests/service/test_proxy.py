"""RUNTIME_PROTOCOL=http: what a reverse proxy passes on, in both directions, and what stays the agent's own."""

import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager

import httpx
import pytest
import uvicorn
from fastapi import FastAPI, Request
from starlette.responses import StreamingResponse

from support.agent import Service, StartService
from support.eventually import eventually
from support.http_runtime import CLIENT_KEY, GZIPPED, PROXY, HttpRuntime, running_http_runtime
from testbed.ports import free_port


@pytest.fixture
def runtime(http_runtime: HttpRuntime) -> HttpRuntime:
    return http_runtime


@pytest.fixture
def service(shared_proxy: Service) -> Service:
    return shared_proxy


@pytest.fixture
def client(service: Service) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, headers={"X-API-Key": CLIENT_KEY}, timeout=30) as made:
        yield made


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"])
def test_any_method_reaches_the_runtime(client: httpx.Client, runtime: HttpRuntime, method: str) -> None:
    answer = client.request(method, "/anything")
    assert answer.status_code == 200
    assert answer.json()["method"] == method


def test_head_has_the_headers_and_no_body(client: httpx.Client, runtime: HttpRuntime) -> None:
    answer = client.head("/headers")
    assert answer.status_code == 200
    assert answer.headers["X-Own"] == "1"
    assert answer.headers["Content-Length"] == str(len(GZIPPED))
    assert runtime.seen[-1]["method"] == "HEAD"


@pytest.mark.parametrize(
    "path",
    ["/", "/a%2Fb%20c/%E2%82%AC?q=%2F&empty=&q=a+b&x", "/a//b", "/a;v=1/b", "/page/x", "/chat/other", "/docs-of-ours"],
)
def test_path_and_query_arrive_as_sent(client: httpx.Client, runtime: HttpRuntime, path: str) -> None:
    assert client.get(path).status_code == 200
    assert runtime.seen[-1]["path"] == path


def test_the_path_of_the_runtime_is_put_in_front(start_service: StartService, runtime: HttpRuntime) -> None:
    service = start_service(**PROXY, RUNTIME_URL=runtime.url, RUNTIME_PATH="/app/v1")
    assert service.get("/x%2Fy?z=1").json()["path"] == "/app/v1/x%2Fy?z=1"
    assert service.get("/").json()["path"] == "/app/v1/"


@pytest.mark.parametrize("path", ["/health", "/health/live", "/health/ready", "/metrics", "/docs", "/openapi.json"])
def test_the_agents_own_paths_are_not_passed_on(client: httpx.Client, runtime: HttpRuntime, path: str) -> None:
    assert client.get(path).status_code in {200, 503}
    assert client.post(path).status_code == 405
    assert runtime.seen == []


@pytest.mark.parametrize("path", ["/chat", "/chat/stream", "/tasks", "/tasks/1", "/%63hat"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_chat_and_tasks_say_that_the_runtime_speaks_http(
    client: httpx.Client, runtime: HttpRuntime, method: str, path: str
) -> None:
    answer = client.request(method, path, json={"message": "hello"})
    assert answer.status_code == 404
    assert "plain HTTP" in answer.json()["detail"]
    assert runtime.seen == []


def test_chat_and_tasks_are_not_in_the_openapi_document(client: httpx.Client) -> None:
    assert set(client.get("/openapi.json").json()["paths"]) == {"/health", "/health/live", "/health/ready", "/metrics"}


def test_metrics_on_another_port_leave_the_path_to_the_runtime_and_need_a_key(
    start_service: StartService, runtime: HttpRuntime
) -> None:
    service = start_service(**PROXY, RUNTIME_URL=runtime.url, API_KEYS=CLIENT_KEY, METRICS_PORT="0")
    assert service.get("/metrics").status_code == 401
    assert runtime.seen == []
    assert httpx.get(f"{service.url}/metrics", headers={"X-API-Key": CLIENT_KEY}).json()["path"] == "/metrics"


@pytest.mark.parametrize("path", ["/", "/page/x", "/anything", "//docs", "/docs;x"])
def test_the_runtime_is_behind_the_keys(service: Service, runtime: HttpRuntime, path: str) -> None:
    assert service.get(path).status_code == 401
    assert runtime.seen == []


@pytest.mark.parametrize(
    "headers",
    [
        {"X-API-Key": CLIENT_KEY},
        {"Authorization": f"Bearer {CLIENT_KEY}"},
        {"Authorization": f"bearer  {CLIENT_KEY}"},
        {"Authorization": f"Bearer {CLIENT_KEY}", "X-API-Key": "of another service"},
        {"X-API-Key": CLIENT_KEY, "X_API_Key": CLIENT_KEY},
    ],
)
def test_a_client_key_does_not_reach_the_runtime(
    service: Service, runtime: HttpRuntime, headers: dict[str, str]
) -> None:
    assert httpx.get(f"{service.url}/x", headers=headers).status_code == 200
    assert CLIENT_KEY not in str(runtime.seen)
    assert not runtime.header_names() & {"authorization", "x-api-key", "x_api_key"}


def test_other_credentials_reach_the_runtime(client: httpx.Client, runtime: HttpRuntime) -> None:
    client.get("/x", headers={"Authorization": "Bearer of-the-runtime", "Cookie": "a=1; b=2"})
    assert runtime.header("Authorization") == ["Bearer of-the-runtime"]
    assert runtime.header("Cookie") == ["a=1; b=2"]


def test_without_client_keys_the_header_is_the_runtimes_own(start_service: StartService, runtime: HttpRuntime) -> None:
    service = start_service(**PROXY, RUNTIME_URL=runtime.url)
    httpx.get(f"{service.url}/x", headers={"X-API-Key": "of the runtime"})
    assert runtime.header("X-API-Key") == ["of the runtime"]


def test_headers_of_the_connection_are_not_passed_on(client: httpx.Client, runtime: HttpRuntime) -> None:
    hop = {"TE": "trailers", "Trailer": "X-T", "Keep-Alive": "timeout=5", "Proxy-Authorization": "Basic eDp5"}
    client.get("/x", headers={**hop, "Connection": "close, X-Mine", "X-Mine": "1", "X-Kept": "1", "Upgrade": "h2c"})
    assert not runtime.header_names() & {"te", "trailer", "keep-alive", "proxy-authorization", "x-mine", "upgrade"}
    assert runtime.header("X-Kept") == ["1"]
    assert runtime.header("Host") == [runtime.url.removeprefix("http://")]
    answer = client.get("/headers")
    assert not {"x-hop", "keep-alive"} & set(answer.headers)
    assert "connection" not in answer.headers


def test_claims_about_the_client_are_replaced(client: httpx.Client, runtime: HttpRuntime) -> None:
    forged = {
        "X-Forwarded-For": "1.2.3.4",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "forged.example",
        "X-Forwarded-Port": "1",
        "X_Forwarded_For": "1.2.3.4",
        "Forwarded": "for=1.2.3.4",
        "X-Real-IP": "1.2.3.4",
    }
    client.get("/x", headers={**forged, "Host": "agent.example", "X-Request-ID": "mine"})
    assert "1.2.3.4" not in str(runtime.seen)
    assert runtime.header("X-Forwarded-For") == ["127.0.0.1"]
    assert runtime.header("X-Forwarded-Proto") == ["http"]
    assert runtime.header("X-Forwarded-Host") == ["agent.example"]
    assert runtime.header("X-Request-ID") == ["mine"]


def test_the_runtime_learns_the_turn_and_the_clients_trace(client: httpx.Client, runtime: HttpRuntime) -> None:
    trace = f"00-{'a' * 32}-{'b' * 16}-01"
    forged = {"baggage": "tenant=1, portside.turn=forged", "X-Portside-Deadline": "2000-01-01T00:00:00Z"}
    client.get("/x", headers={"traceparent": trace, **forged})
    assert runtime.header("traceparent") == [trace]
    [baggage] = runtime.header("baggage")
    assert baggage.startswith("tenant=1,portside.turn=")
    assert "forged" not in baggage
    assert runtime.header("X-Portside-Deadline") > ["2026"]


def test_claims_of_a_trusted_proxy_are_passed_on(start_service: StartService, runtime: HttpRuntime) -> None:
    service = start_service(**PROXY, RUNTIME_URL=runtime.url, TRUSTED_PROXIES="127.0.0.1")
    claims = {"X-Forwarded-For": "6.6.6.6, 1.2.3.4", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "agent.example"}
    httpx.get(f"{service.url}/x", headers=claims)
    assert runtime.header("X-Forwarded-For") == ["1.2.3.4"]
    assert runtime.header("X-Forwarded-Proto") == ["https"]
    assert runtime.header("X-Forwarded-Host") == ["agent.example"]


def test_the_answer_arrives_as_the_runtime_wrote_it(client: httpx.Client, runtime: HttpRuntime) -> None:
    with client.stream("GET", "/headers", headers={"X-Request-ID": "mine"}) as answer:
        assert b"".join(answer.iter_raw()) == GZIPPED
    assert answer.headers["Content-Encoding"] == "gzip"
    assert answer.headers.get_list("Set-Cookie") == ["a=1", "b=2"]
    assert answer.headers.get_list("Server") == ["own"]
    assert len(answer.headers.get_list("Date")) == 1
    assert answer.headers.get_list("X-Request-ID") == ["mine"]


@pytest.mark.parametrize("status", [201, 204, 301, 304, 404, 418, 429, 500, 503])
def test_every_status_is_passed_on(client: httpx.Client, runtime: HttpRuntime, status: int) -> None:
    answer = client.get(f"/status/{status}")
    assert answer.status_code == status
    assert answer.headers["Location"] == "http://elsewhere.example/"
    assert len(runtime.seen) == 1


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_is_passed_on_and_bounded(client: httpx.Client, runtime: HttpRuntime, chunked: bool) -> None:
    def pieces(count: int) -> Iterator[bytes]:
        yield from [b"x" * 1000] * count

    fits = pieces(90) if chunked else b"x" * 90_000
    assert client.post("/x", content=fits).json()["length"] == 90_000
    assert runtime.header_names() & {"transfer-encoding", "content-length"} == {
        "transfer-encoding" if chunked else "content-length"
    }
    large = pieces(1000) if chunked else b"x" * 1_000_000
    answer = client.post("/x", content=large)
    assert answer.status_code == 413
    assert "larger" in answer.json()["detail"]


def test_server_sent_events_arrive_at_once(client: httpx.Client, runtime: HttpRuntime) -> None:
    with client.stream("GET", "/sse") as answer:
        lines = answer.iter_lines()
        assert next(lines) == "data: one"
        runtime.open_gate()
        assert [line for line in lines if line] == ["data: two"]


def test_a_client_that_does_not_read_slows_the_runtime_down(client: httpx.Client, runtime: HttpRuntime) -> None:
    with client.stream("GET", "/big/100") as answer:
        pieces = answer.iter_raw()
        next(pieces)
        previous = -1

        def has_stopped() -> bool:
            nonlocal previous
            before, previous = previous, runtime.written
            return previous == before

        eventually(has_stopped, "the runtime waits")
        assert runtime.written < 50 * 2**20
        assert sum(map(len, pieces)) > 90 * 2**20


@pytest.mark.parametrize("path", ["/slow", "/sse", "/big/1000"])
def test_a_client_that_leaves_ends_the_runtimes_request(client: httpx.Client, runtime: HttpRuntime, path: str) -> None:
    if path == "/slow":
        with pytest.raises(httpx.ReadTimeout):
            client.get(path, timeout=httpx.Timeout(30, read=3))
    else:
        with client.stream("GET", path) as answer:
            next(answer.iter_raw())
    eventually(lambda: runtime.left == 1, "its handler was cancelled")


def test_a_broken_response_is_not_complete_for_the_client(client: httpx.Client, runtime: HttpRuntime) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        client.get("/cut")


def test_a_runtime_that_does_not_answer_in_time(start_service: StartService, runtime: HttpRuntime) -> None:
    service = start_service(**PROXY, RUNTIME_URL=runtime.url, REQUEST_TIMEOUT_SECONDS="3")
    answer = service.get("/slow")
    assert answer.status_code == 504
    assert "runtime" in answer.json()["detail"]
    with pytest.raises(httpx.RemoteProtocolError):
        service.get("/silent")
    eventually(lambda: runtime.left == 2, "both handlers were cancelled")


def test_a_request_waits_for_a_runtime_that_restarts(start_service: StartService) -> None:
    port = free_port()
    service = start_service(**PROXY, RUNTIME_URL=f"http://127.0.0.1:{port}")
    answers: list[httpx.Response] = []
    threads = [
        threading.Thread(target=lambda: answers.append(httpx.post(f"{service.url}/x", content=b"hello", timeout=30))),
        threading.Thread(target=lambda: answers.append(httpx.get(f"{service.url}/x", timeout=30))),
    ]
    for thread in threads:
        thread.start()
    eventually(lambda: service.metric("agent_requests_in_flight") == 2, "both wait")
    with running_http_runtime(port) as runtime:
        for thread in threads:
            thread.join()
        assert [answer.status_code for answer in answers] == [200, 200]
        assert len(runtime.seen) == 2


def test_a_runtime_that_stays_away_is_503(start_service: StartService) -> None:
    service = start_service(**PROXY, RUNTIME_URL=f"http://127.0.0.1:{free_port()}", REQUEST_TIMEOUT_SECONDS="1")
    answer = service.get("/x")
    assert answer.status_code == 503
    assert answer.json()["kind"] == "connection_refused"


def test_limits_apply(start_service: StartService, runtime: HttpRuntime) -> None:
    service = start_service(**{**PROXY, "RATE_LIMIT_REQUESTS": "2"}, RUNTIME_URL=runtime.url)
    answers = [service.get("/x") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[0].headers.get_list("X-RateLimit-Limit") == ["2"]
    assert len(runtime.seen) == 2


def test_requests_in_flight_finish_while_draining(start_service: StartService, runtime: HttpRuntime) -> None:
    service = start_service(**PROXY, RUNTIME_URL=runtime.url)
    with httpx.stream("GET", f"{service.url}/sse", timeout=30) as answer:
        lines = answer.iter_lines()
        assert next(lines) == "data: one"
        service.terminate()
        eventually(lambda: service.get("/x").status_code == 503, "it accepts nothing more")
        runtime.open_gate()
        assert [line for line in lines if line] == ["data: two"]
    assert service.wait() == 0


def test_all_paths_are_one_route_in_metrics_and_log(
    service: Service, client: httpx.Client, runtime: HttpRuntime
) -> None:
    for path in ("/private-a?secret=1", "/private-b"):
        client.get(path)
    metrics = service.get("/metrics").text
    assert 'route="/{runtime path}"' in metrics
    assert "private" not in metrics
    assert "private" not in service.log()


@contextmanager
def running_fastapi(port: int) -> Iterator[None]:
    """Run an application by other people's tools: FastAPI on uvicorn."""
    app = FastAPI(root_path="")

    @app.post("/items/{item:path}")
    async def create(item: str, request: Request) -> dict[str, object]:
        return {"item": item, "url": str(request.url), "body": (await request.body()).decode()}

    @app.get("/events")
    async def events() -> StreamingResponse:
        async def stream() -> AsyncIterator[str]:
            for number in range(3):
                yield f"data: {number}\n\n"

        return StreamingResponse(stream(), media_type="text/event-stream")

    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_config=None))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        eventually(lambda: server.started, "uvicorn listens")
        yield
    finally:
        server.should_exit = True
        thread.join()


def test_a_fastapi_application_works_unchanged(start_service: StartService) -> None:
    port = free_port()
    with ExitStack() as stack:
        stack.enter_context(running_fastapi(port))
        service = start_service(**PROXY, RUNTIME_URL=f"http://127.0.0.1:{port}")
        created = httpx.post(f"{service.url}/items/a%2Fb?x=1", content=b"body").json()
        assert created["item"] == "a/b"
        assert created["body"] == "body"
        assert service.get("/events").text == "data: 0\n\ndata: 1\n\ndata: 2\n\n"
        assert service.get("/nothing").json() == {"detail": "Not Found"}
