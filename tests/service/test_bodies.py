"""Request bodies crafted to be expensive: the error answers stay short, whatever the faults and their number."""

import json

import pytest

from agent_service.routes import errors
from support.agent import MakeClient

LIMIT = 256 * 1024


def fields(value: str = "1") -> str:
    """Return as many fields, each with this value, as fit in a body of the largest size."""
    return ",".join(f'"k{number}":{value}' for number in range((LIMIT - 4096) // (len(value) + 10)))


NUMBERS = f"[{','.join('1' * 100_000)}]"
BODIES = {
    "unknown fields": f'{{"message":"a",{fields()}}}',
    "unknown fields and no message": f"{{{fields()}}}",
    "unknown objects": "{" + fields("{}") + "}",
    "one long unknown field": json.dumps({"message": "a", "k" * (LIMIT - 100): 1}),
    "a few long unknown fields": json.dumps({"message": "a"} | {f"{n}{'k' * 30_000}": 1 for n in range(8)}),
    "surrogates in unknown fields": json.dumps({"message": "a"} | {f"{n}\udc00": 1 for n in range(8)}),
    "a list": NUMBERS,
    "a list for the message": f'{{"message":{NUMBERS}}}',
    "an object for the message": f'{{"message":{{{fields()}}}}}',
    "a long number": f'{{"message":{"1" * (LIMIT - 100)}}}',
    "a long text": json.dumps("a" * (LIMIT - 100)),
    "deep": f'{{"message":{"[" * 100_000}{"]" * 100_000}}}',
    "no JSON": "x" * (LIMIT - 100),
    "a long id": json.dumps({"message": "a", "conversation_id": "c" * (LIMIT - 100)}),
}


@pytest.mark.parametrize("path", ["/chat", "/chat/stream", "/tasks"])
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
async def test_the_errors_of_an_invalid_body_stay_short(make_client: MakeClient, path: str, body: str) -> None:
    client = await make_client(model_provider="echo")
    answer = await client.post(path, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert len(answer.content) < 8192
    detail = answer.json()["detail"]
    assert isinstance(detail, str) or len(detail) <= 16


async def test_a_body_with_thousands_of_unknown_fields_is_one_error(
    make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    monkeypatch.setattr(errors, "_MOST_FAULTS", 10**9)
    client = await make_client(model_provider="echo")
    for body in (BODIES["unknown fields"], BODIES["unknown objects"]):
        answer = await client.post("/chat", content=body, headers={"Content-Type": "application/json"})
        made += answer.json()["detail"]
    assert len(made) == 2, "each would take its time to make, also where it is left out of the answer"
    assert all("message, conversation_id, stream" in fault["msg"] for fault in made)


async def test_each_of_a_few_unknown_fields_is_named(make_client: MakeClient) -> None:
    client = await make_client(model_provider="echo")
    answer = await client.post("/chat", json={"message": "hi", "mesage": 1, "system": "Be loud."})
    assert [(fault["type"], fault["loc"]) for fault in answer.json()["detail"]] == [
        ("extra_forbidden", ["body", "mesage"]),
        ("extra_forbidden", ["body", "system"]),
    ]


@pytest.mark.parametrize(
    "content_type",
    [None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "text/plain; application/json"],
)
async def test_a_body_that_any_site_can_send_from_a_browser_is_refused(
    make_client: MakeClient, content_type: str | None
) -> None:
    """A page can send these content types without a preflight request (Fetch, "CORS-safelisted request-header")."""
    client = await make_client(model_provider="echo")
    headers = {} if content_type is None else {"Content-Type": content_type}
    answer = await client.post(
        "/chat", content=b'{"message":"hi"}', headers={**headers, "Origin": "http://evil.example"}
    )
    assert answer.status_code == 422
