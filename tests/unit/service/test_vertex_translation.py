"""How calls and errors are written for Vertex AI and Foundry and back."""

import json
from collections.abc import Awaitable, Hashable
from typing import Any

import anthropic
import httpx2
import pytest

from agent_service.agent.claude.credentials import ApiKeys, Credentials, Token
from agent_service.agent.claude.endpoint import AnyEndpoint, Call
from agent_service.agent.claude.renewal import Renewed
from agent_service.agent.foundry.endpoint import Foundry
from agent_service.agent.vertex.endpoint import Vertex

QUESTION: dict[str, Any] = {"max_tokens": 10, "messages": [{"role": "user", "content": "hello"}]}


async def no_exchange(origin: Hashable) -> tuple[Token, float]:
    raise AssertionError


def vertex(region: str = "europe-west1", **given: Any) -> Vertex:
    return Vertex(Credentials(Renewed(lambda: "key", no_exchange)), project="project-one", region=region, **given)


def recording(sent: list[httpx2.Request]) -> httpx2.AsyncClient:
    def answer(request: httpx2.Request) -> httpx2.Response:
        sent.append(request)
        return httpx2.Response(500)

    return httpx2.AsyncClient(transport=httpx2.MockTransport(answer))


@pytest.mark.parametrize("region", ["europe-west1", "global", "eu", "us"])
@pytest.mark.parametrize("model", ["claude-sonnet-4-5@20250929", "claude sonnet/5"])
@pytest.mark.parametrize("call", [None, False, True])
async def test_a_call_is_written_as_the_official_client_of_vertex_writes_it(
    region: str, model: str, *, call: bool | None
) -> None:
    sent: list[httpx2.Request] = []
    official = anthropic.AsyncAnthropicVertex(
        region=region, project_id="project-one", access_token="token", max_retries=0, http_client=recording(sent)
    )
    ours = vertex(region, model_ids={"claude": model})
    asking: Awaitable[object]
    if call is None:
        question = {"model": "claude", "messages": QUESTION["messages"]}
        rewrite = ours.rewrite(Call.COUNT_TOKENS, "claude")
        asking = official.messages.count_tokens(model=model, messages=QUESTION["messages"])
    else:
        question = {"model": "claude", **QUESTION, "stream": call}
        rewrite = ours.rewrite(Call.MESSAGES, "claude", streamed=call)
        asking = official.messages.create(**QUESTION, model=model, stream=call)
    with pytest.raises(anthropic.InternalServerError):
        await asking

    assert ours.address + rewrite.path == str(sent[0].url)
    theirs = {**json.loads(sent[0].content), "anthropic_version": "vertex-2023-10-16"}
    assert json.loads(rewrite.of_object(question)) == theirs
    assert json.loads(rewrite.of_bytes(json.dumps(question).encode())) == theirs


def test_an_address_without_a_path_gets_the_version_of_the_api() -> None:
    assert vertex(address="https://vertex.internal/").address == "https://vertex.internal/v1"
    assert vertex(address="https://vertex.internal/proxy/v1").address == "https://vertex.internal/proxy/v1"


async def test_a_call_is_written_as_the_official_client_of_foundry_writes_it() -> None:
    sent: list[httpx2.Request] = []
    official = anthropic.AsyncAnthropicFoundry(
        resource="resource-one", api_key="key", max_retries=0, http_client=recording(sent)
    )
    with pytest.raises(anthropic.InternalServerError):
        await official.messages.create(**QUESTION, model="deployment-one")
    ours = Foundry(Credentials(ApiKeys("key")), resource="resource-one", model_ids={"claude": "deployment-one"})
    rewrite = ours.rewrite(Call.MESSAGES, "claude")
    written = rewrite.of_bytes(json.dumps({**QUESTION, "model": "claude"}).encode())
    headers = await ours.authorize(await ours.credentials.current(), ours.address + rewrite.path, written)

    assert ours.address + rewrite.path == str(sent[0].url)
    assert json.loads(written) == json.loads(sent[0].content)
    assert {name: sent[0].headers[name] for name in headers} == headers


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (403, "permission_error"),
        (404, "not_found_error"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (502, "api_error"),
        (503, "overloaded_error"),
        (504, "timeout_error"),
    ],
)
@pytest.mark.parametrize(
    "endpoint", [vertex(), Foundry(Credentials(ApiKeys("key")), resource="resource-one")], ids=["vertex", "foundry"]
)
def test_each_error_has_its_type_in_the_messages_api(endpoint: AnyEndpoint, status: int, kind: str) -> None:
    content = json.dumps({"error": {"code": "Some", "message": "It failed."}}).encode()
    found = endpoint.failure(status, {}, content)

    assert found.status == status
    assert json.loads(found.content) == {"type": "error", "error": {"type": kind, "message": "It failed."}}


@pytest.mark.parametrize(
    "content",
    [b"<html>", b"{}", b'{"type":"error","error":{"type":"overloaded_error","code":1}}', b'{"error":"text"}', b"[]"],
)
def test_an_error_in_another_form_is_left_as_it_is(content: bytes) -> None:
    assert vertex().failure(503, {}, content).content == content


def test_a_resource_without_a_route_is_not_a_missing_deployment() -> None:
    foundry = Foundry(Credentials(ApiKeys("key")), resource="resource-one")
    route = foundry.failure(404, {}, b'{"error":{"code":"404","message":"Resource not found"}}')
    deployment = foundry.failure(404, {}, b'{"error":{"code":"DeploymentNotFound","message":"unknown"}}')

    assert "type" not in json.loads(route.content)
    assert json.loads(deployment.content)["error"]["type"] == "not_found_error"
