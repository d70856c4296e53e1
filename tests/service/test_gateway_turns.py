"""Turns of a runtime that calls the model through the gateway, from the client to the model API and back."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import anthropic
import httpx
import pytest

from stand_in import StandIn, asking
from support.agent import KEY, StartService
from support.eventually import eventually
from support.runtime import Asked, Runtime, json_answer, running_runtime
from support.runtime_gateway import MODEL, PLACEHOLDER, SDK_SECONDS, MakeGateway, asked
from testbed.ports import free_port

_TURNS = 30


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def runtime(port: int) -> Iterator[Runtime]:
    """Run a runtime that calls the model twice, and passes on the headers of its turn."""
    client = anthropic.Anthropic(
        base_url=f"http://127.0.0.1:{port}", api_key=PLACEHOLDER, max_retries=0, timeout=SDK_SECONDS
    )

    def answer(received: Asked) -> bytes:
        headers = {name: received.headers[name] for name in ("baggage", "traceparent")}
        client.messages.create(**asked("First call."), extra_headers=headers)
        found = client.messages.create(**asked(received.body["prompt"]), extra_headers=headers)
        return json_answer({"response": found.content[0].text})

    with running_runtime(answer) as running:
        yield running


def test_the_tokens_of_a_turn_are_those_of_its_calls(
    start_service: StartService, stand_in: StandIn, runtime: Runtime, port: int
) -> None:
    service = start_service(
        ANTHROPIC_API_KEY=KEY, ANTHROPIC_BASE_URL=stand_in.url, RUNTIME_URL=runtime.url, GATEWAY_PORT=str(port)
    )
    answer = service.post("/chat", message="Hello there.").json()

    assert 'heard "Hello there."' in answer["response"]
    counted = sum(
        service.metric(f'agent_tokens_total{{direction="{way}",model="{MODEL}"}}') for way in ("input", "output")
    )
    assert answer["tokens_used"] == counted > 0
    assert service.metric(f'agent_model_requests_total{{model="{MODEL}",outcome="ok"}}') == 2
    assert [each["key"] for each in stand_in.requests()] == [KEY[-4:]] * 2


def test_sigterm_cuts_no_turn_that_still_calls_the_model(
    start_service: StartService, stand_in: StandIn, runtime: Runtime, port: int
) -> None:
    service = start_service(
        ANTHROPIC_API_KEY=KEY, ANTHROPIC_BASE_URL=stand_in.url, RUNTIME_URL=runtime.url, GATEWAY_PORT=str(port)
    )
    # The first call of each turn is held, so that the second one comes while the service drains.
    stand_in.behave(hold="turns")
    with ThreadPoolExecutor(_TURNS) as pool:
        answers = [pool.submit(service.post, "/chat", message=f"Turn {number}.") for number in range(_TURNS)]
        eventually(lambda: len(stand_in.requests()) == _TURNS, "the first call of each turn is held")
        service.terminate()
        eventually(lambda: httpx.get(f"{service.url}/health/ready").status_code == 503, "the service drains")
        stand_in.release("turns")
        assert [answer.result().status_code for answer in answers] == [200] * _TURNS

    assert len(stand_in.requests()) == 2 * _TURNS
    assert service.wait() == 0


async def test_without_a_key_calls_are_refused_in_the_apis_form(make_gateway: MakeGateway, stand_in: StandIn) -> None:
    gateway = await make_gateway(anthropic_api_key=None, runtime_url="http://127.0.0.1:1")

    with pytest.raises(anthropic.AuthenticationError, match="no key for the model API"):
        await gateway.say(asking("Hello."))
    assert stand_in.requests() == []
