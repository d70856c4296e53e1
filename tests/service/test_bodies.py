"""Bodies that are made to cost much: their answers are short, whatever is wrong with them and how often."""

import json

import pytest

from agent_service.routes import errors
from stand_in.agent import MakeClient

LIMIT = 256 * 1024


def fill(piece: str, between: str = ",") -> str:
    """As many pieces as a body of the largest size can hold, each with its number."""
    pieces, size = [], 0
    while size < LIMIT - 4096:
        pieces.append(piece % len(pieces))
        size += len(pieces[-1]) + len(between)
    return between.join(pieces)


BODIES = {
    "unknown fields": '{"message":"a",%s}' % fill('"k%d":1'),
    "unknown fields and no message": "{%s}" % fill('"k%d":1'),
    "unknown objects": "{%s}" % fill('"k%d":{"a":[]}'),
    "one long unknown field": '{"message":"a","%s":1}' % ("k" * (LIMIT - 100)),
    "a few long unknown fields": '{"message":"a",%s}' % ",".join(f'"{n}{"k" * 30_000}":1' for n in range(8)),
    "surrogates in unknown fields": '{"message":"a",%s}' % ",".join(f'"{n}{chr(92)}udc00":1' for n in range(8)),
    "a list": "[%s]" % fill("%d"),
    "a list for the message": '{"message":[%s]}' % fill("%d"),
    "an object for the message": '{"message":{%s}}' % fill('"k%d":1'),
    "a long number": '{"message":%s}' % ("1" * (LIMIT - 100)),
    "a long text": json.dumps("a" * (LIMIT - 100)),
    "deep": '{"message":%s%s}' % ("[" * 100_000, "]" * 100_000),
    "no JSON": "x" * (LIMIT - 100),
    "a long id": json.dumps({"message": "a", "conversation_id": "c" * (LIMIT - 100)}),
}


@pytest.mark.parametrize("path", ["/chat", "/chat/stream", "/tasks"])
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
async def test_what_is_wrong_with_a_body_is_said_in_a_few_hundred_words(
    make_client: MakeClient, path: str, body: str
) -> None:
    client = await make_client(model_provider="echo")
    answer = await client.post(path, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert len(answer.content) < 8192
    detail = answer.json()["detail"]
    assert isinstance(detail, str) or len(detail) <= 16


async def test_a_body_with_thousands_of_unknown_fields_is_one_error_and_not_thousands(
    make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time went into making them, before the first was left out of the answer."""
    made = []
    monkeypatch.setattr(errors, "_MOST_FAULTS", 10**9)
    client = await make_client(model_provider="echo")
    for body in (BODIES["unknown fields"], BODIES["unknown objects"]):
        answer = await client.post("/chat", content=body, headers={"Content-Type": "application/json"})
        made += answer.json()["detail"]
    assert len(made) == 2
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
async def test_a_body_that_any_site_may_send_from_a_browser_is_refused(
    make_client: MakeClient, content_type: str | None
) -> None:
    """Of these types a page can send one without asking (Fetch, "CORS-safelisted request-header")."""
    client = await make_client(model_provider="echo")
    headers = {} if content_type is None else {"Content-Type": content_type}
    answer = await client.post("/chat", content=b'{"message":"hi"}', headers={**headers, "Origin": "http://evil.example"})
    assert answer.status_code == 422
