"""Metrics, request ids, logs, CORS, and the pages that describe the service."""

import json
import uuid
from concurrent.futures import Future, ThreadPoolExecutor

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from stand_in import StandIn, asking
from support.agent import KEY, MakeClient, Service, StartService
from support.eventually import eventually

pytestmark = pytest.mark.timing


@pytest.fixture
def service(heartbeat_service: Service, stand_in: StandIn) -> Service:
    """Return a service whose streams send heartbeats within the duration of a test."""
    assert stand_in.requests() == []
    return heartbeat_service


def test_requests_are_counted_by_route_template(service: Service) -> None:
    counted = 'agent_http_requests_total{method="POST",route="/chat",status="200"}'
    before = service.metric(counted)
    service.post("/chat", message="hello")
    assert service.metric(counted) == before + 1


def test_requests_throttled_by_the_model_api_are_in_a_gauge_while_they_wait(service: Service) -> None:
    with ThreadPoolExecutor() as pool:
        answers: list[Future[httpx.Response]] = []

        def waits() -> bool:
            # A busy machine may not look within the two seconds that a request waits.
            if all(answer.done() for answer in answers):
                throttled = asking(fault=429, retry_after=2, times=1, id=f"waits-{len(answers)}")
                answers.append(pool.submit(service.post, "/chat", message=throttled))
            return service.metric("agent_requests_throttled ") == 1

        eventually(waits, "one waits")
        assert {answer.result().status_code for answer in answers} == {200}
    assert service.metric("agent_requests_throttled ") == 0


def test_throttled_tasks_do_not_count_as_throttled_requests(start_service: StartService, stand_in: StandIn) -> None:
    """Autoscalers subtract the throttled requests from the requests in flight."""
    common = {"ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": stand_in.url, "API_RUNS_TASKS": "true"}
    service = start_service(**common)
    service.post("/tasks", message=asking(fault=429, retry_after=2, times=1, id="task"))
    eventually(lambda: bool(stand_in.requests()), "it is rejected")

    def again() -> bool:
        assert service.metric("agent_requests_throttled ") == 0
        return len(stand_in.requests()) == 2

    eventually(again, "it is asked again")


def test_unknown_paths_and_methods_do_not_become_labels(service: Service) -> None:
    httpx.get(f"{service.url}/secret/{uuid.uuid4()}")
    httpx.request("BREW", f"{service.url}/chat")
    text = service.get("/metrics").text
    assert "secret" not in text
    assert "BREW" not in text
    assert service.metric('agent_http_requests_total{method="GET",route="unmatched",status="404"}') > 0


@pytest.mark.parametrize(
    ("message", "outcome"),
    [
        ("hello", "ok"),
        (asking(fault=400), "refused"),
        (asking(fault=401), "credentials_refused"),
        (asking(fault=429, retry_after=9), "rate_limited"),
        (asking(fault=529, retry_after=9), "overloaded"),
        (asking(break_at=2), "failed"),
        (asking(refusal=True), "declined"),
    ],
)
def test_model_requests_are_counted_by_outcome(service: Service, message: str, outcome: str) -> None:
    counted = f'agent_model_requests_total{{model="claude-sonnet-5-5",outcome="{outcome}"}}'
    before = service.metric(counted)
    service.post("/chat", message=message)
    assert service.metric(counted) == before + 1


def test_tokens_and_durations_are_counted(service: Service) -> None:
    def counts() -> list[float]:
        return [
            service.metric('agent_tokens_total{direction="input",model="claude-sonnet-5-5"}'),
            service.metric('agent_tokens_total{direction="output",model="claude-sonnet-5-5"}'),
            service.metric('agent_model_request_duration_seconds_count{model="claude-sonnet-5-5"}'),
        ]

    before = counts()
    used = service.post("/chat", message="one two").json()["tokens_used"]
    grown = [after - earlier for after, earlier in zip(counts(), before, strict=True)]
    assert grown[0] == 4
    assert grown[0] + grown[1] == used
    assert grown[2:] == [1]


def test_the_time_to_the_first_token_is_recorded_for_streams_only(service: Service) -> None:
    counted = "agent_stream_first_token_seconds_count"
    before = service.metric(counted)
    service.post("/chat", message="hello")
    assert service.metric(counted) == before, "a plain answer has no first token to wait for"
    service.post("/chat/stream", message="hello")
    service.post("/chat", message="hello", stream=True)
    assert service.metric(counted) == before + 2
    service.post("/chat/stream", message=asking("hello", stall=0.3))
    assert service.metric('agent_stream_first_token_seconds_bucket{le="0.25"}') <= before + 2


def test_every_outcome_and_failure_is_exposed_as_zero_from_the_start(start_service: StartService) -> None:
    """Without an initial 0, Prometheus sees no increase at the first event of a kind."""
    text = start_service(ANTHROPIC_API_KEY=KEY, DEFAULT_MODEL="claude-of-the-test").get("/metrics").text
    samples = [line for line in text.splitlines() if line.startswith("agent_model_requests_total{")]
    assert {line.rpartition(" ")[2] for line in samples} == {"0.0"}
    for outcome in ("ok", "cancelled", "error", "failed", "credentials_refused", "rate_limited", "timed_out"):
        assert f'agent_model_requests_total{{model="claude-of-the-test",outcome="{outcome}"}} 0.0' in samples
    for route, status in (("/chat", 502), ("/chat/stream", 504), ("/tasks", 503), ("unmatched", 503)):
        assert f'agent_http_requests_total{{method="POST",route="{route}",status="{status}"}} 0.0' in text
    assert "agent_stream_errors_total 0.0" in text


@pytest.mark.parametrize(
    ("message", "counts"),
    [
        ("hello", 0),
        (asking(break_at=2), 1),
        # It starts with a heartbeat, and then fails.
        (asking(stall=2, fault=500, times=9), 1),
        (asking(stall=2, fault=429, retry_after=9), 0),
        (asking(fault=400), 0),
    ],
    ids=[
        "goes well",
        "breaks off",
        "fails after a heartbeat",
        "is limited after a heartbeat",
        "has a status of its own",
    ],
)
def test_streams_that_fail_after_they_started_are_counted(service: Service, message: str, counts: int) -> None:
    before = service.metric("agent_stream_errors_total ")
    answer = service.post("/chat/stream", message=message)
    assert ('"type":"error"' in answer.text) is ("break" in message or "stall" in message)
    assert service.metric("agent_stream_errors_total ") == before + counts


def test_a_client_that_disconnects_from_its_stream_is_not_counted_as_an_error(service: Service) -> None:
    before = service.metric("agent_stream_errors_total ")
    with httpx.stream("POST", f"{service.url}/chat/stream", json={"message": asking(slow=5)}, timeout=30) as answer:
        next(answer.iter_bytes())
    eventually(lambda: service.metric("agent_requests_in_flight") == 0, "it is over")
    assert service.metric("agent_stream_errors_total ") == before


def test_a_stream_in_flight_is_in_the_gauge_and_its_disconnect_is_counted_as_cancelled(service: Service) -> None:
    cancelled = 'agent_model_requests_total{model="claude-sonnet-5-5",outcome="cancelled"}'
    before = service.metric(cancelled)
    with httpx.stream("POST", f"{service.url}/chat/stream", json={"message": asking(slow=5)}, timeout=30) as answer:
        received = answer.iter_bytes()
        next(received)
        assert service.metric("agent_requests_in_flight") == 1
    eventually(lambda: service.metric("agent_requests_in_flight") == 0, "the gauge returns to 0")
    assert service.metric(cancelled) == before + 1


def test_all_metrics_of_the_contract_are_exposed_and_can_be_parsed(service: Service) -> None:
    service.post("/chat", message="hello")
    answer = service.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    families = {family.name for family in text_string_to_metric_families(answer.text)}
    assert families >= {
        "agent_http_requests",
        "agent_http_request_duration_seconds",
        "agent_requests_in_flight",
        "agent_stream_first_token_seconds",
        "agent_model_requests",
        "agent_model_request_duration_seconds",
        "agent_tokens",
        "agent_build_info",
        "process_resident_memory_bytes",
    }


def test_a_callers_request_id_is_returned_and_logged(service: Service) -> None:
    request_id = f"trace-{uuid.uuid4()}"
    answer = httpx.post(f"{service.url}/chat", json={"message": "hello"}, headers={"X-Request-ID": request_id})
    assert answer.headers["X-Request-ID"] == request_id
    eventually(lambda: request_id in service.log(), "the log has the request")


@pytest.mark.parametrize("hostile", ["", "a b", "x" * 129, "a\tb", "<script>"])
def test_an_invalid_request_id_is_replaced(service: Service, hostile: str) -> None:
    answer = httpx.get(f"{service.url}/health/live", headers={"X-Request-ID": hostile})
    assert len(answer.headers["X-Request-ID"]) == 32


def test_errors_carry_a_request_id_too(service: Service) -> None:
    assert service.get("/nowhere").headers["X-Request-ID"]
    assert service.post("/chat").headers["X-Request-ID"]


def test_every_log_line_is_json_and_none_has_a_message_or_a_key(service: Service, stand_in: StandIn) -> None:
    """Also at level DEBUG with ANTHROPIC_LOG=debug, where the SDK would log whole request bodies."""
    private = f"private-{uuid.uuid4()}"
    for behaviour in ("", asking(fault=400), asking(fault=401), asking(fault=500), asking(break_at=2)):
        service.post("/chat", message=f"{private} {behaviour}")
        service.post("/chat/stream", message=f"{private} {behaviour}", system_prompt=private)
    service.post("/chat", message=f"{private}\0")
    service.post("/chat", **{private: private})
    last = service.get(f"/{private}?{private}").headers["X-Request-ID"]
    # Checks that the service makes by itself may add lines after it.
    eventually(lambda: _answered(service.log(), last), "the last request is logged")
    log = service.log()
    assert private not in log
    assert stand_in.last()["key"] == KEY[-4:]
    assert KEY not in log
    events = [json.loads(line) for line in log.splitlines()]
    assert all({"event", "level", "logger", "timestamp"} <= set(event) for event in events)
    # The refused key is the only problem here that an operator must act on.
    errors = {event["event"] for event in events if event["level"] in {"error", "critical"}}
    assert errors == {"Credentials were refused by the model API"}
    assert {event["logger"].split(".")[0] for event in events} == {"agent_service", "uvicorn"}


def _answered(log: str, request_id: str) -> bool:
    """Return whether the log has the line that a request was answered."""
    return any("Request answered" in line and request_id in line for line in log.splitlines())


def test_content_is_logged_only_on_request_and_keys_never(start_service: StartService, stand_in: StandIn) -> None:
    service = start_service(
        ANTHROPIC_API_KEY=KEY, ANTHROPIC_BASE_URL=stand_in.url, MODEL_PROVIDER="anthropic", LOG_CONTENT="true"
    )
    for path in ("/chat", "/chat/stream"):
        assert service.post(path, message=f"hello on {path}").status_code == 200
        eventually(lambda each=path: _logged_answer(service.log(), each), "the answer is logged")  # type: ignore[misc]
        lines = [json.loads(line) for line in service.log().splitlines()]
        asked = next(line for line in lines if line.get("message") == f"hello on {path}")
        assert (asked["event"], asked["level"]) == ("Message was sent to the model", "info")
    assert KEY not in service.log()


def _logged_answer(log: str, path: str) -> bool:
    """Return whether the log has the answer to the message on a path."""
    answers = [json.loads(line)["answer"] for line in log.splitlines() if "Model answered" in line]
    return any(f'Stand-in heard "hello on {path}"' in answer for answer in answers)


def test_an_allowed_origin_may_call_without_credentials(service: Service) -> None:
    preflight = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
    allowed = httpx.options(f"{service.url}/chat", headers={"Origin": "https://console.example", **preflight})
    assert allowed.headers["access-control-allow-origin"] == "https://console.example"
    assert "access-control-allow-credentials" not in allowed.headers
    other = httpx.options(f"{service.url}/chat", headers={"Origin": "https://evil.example", **preflight})
    assert "access-control-allow-origin" not in other.headers


async def test_cors_is_off_without_origins_and_a_wildcard_allows_no_credentials(make_client: MakeClient) -> None:
    origin = {"Origin": "https://console.example"}
    closed = await (await make_client()).get("/", headers=origin)
    assert not [name for name in closed.headers if name.startswith("access-control")]
    opened = await (await make_client(cors_origins=("*",))).get("/", headers={**origin, "Cookie": "a=b"})
    assert opened.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in opened.headers


async def test_the_root_describes_the_service_and_the_docs_are_off_in_production(make_client: MakeClient) -> None:
    development = await make_client()
    about = (await development.get("/")).json()
    assert about["service"] == "portside-agent"
    assert about["model"] == "claude-sonnet-5-5"
    assert (await development.get(about["docs"])).status_code == 200
    production = await make_client(environment="production")
    assert (await production.get("/")).json()["docs"] is None
    for path in ("/docs", "/redoc", "/openapi.json"):
        assert (await production.get(path)).status_code == 404


async def test_the_openapi_document_describes_conversations_events_and_errors(make_client: MakeClient) -> None:
    document = (await (await make_client()).get("/openapi.json")).json()
    operation = document["paths"]["/chat/stream"]["post"]
    assert set(operation["responses"]) >= {"200", "422", "429", "502", "503", "504"}
    assert "text/event-stream" in operation["responses"]["200"]["content"]
    assert "unknown id starts a new conversation" in json.dumps(document)


async def test_an_unexpected_error_is_a_500_with_a_detail_and_a_request_id(
    make_client: MakeClient, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    client = await make_client(model_provider="echo")

    def broken() -> None:
        raise RuntimeError("private words")

    monkeypatch.setattr("agent_service.health.memory.measure", broken)
    answer = await client.get("/health")
    assert answer.status_code == 500
    assert set(answer.json()) == {"detail"}
    assert "private words" not in answer.text
    logged = capsys.readouterr().out
    assert answer.headers["X-Request-ID"] in logged
    assert "RuntimeError" in logged
    assert "in broken" in logged
    assert "private words" not in logged.replace('raise RuntimeError("private words")', "")
