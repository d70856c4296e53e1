"""Request bodies, which are valid as JSON and as YAML, and responses, which are read within bounds."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from agent_operator.api.bounds import MAX_DEPTH, MAX_VALUES, UNREADABLE, excess
from agent_operator.api.validation import InvalidAgentError, parse
from agent_operator.kube.bodies import decode, encode, lines_within_bounds, within_bounds

TEXTS = st.text(st.characters(), max_size=20)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**53), 2**53), st.floats(allow_nan=False), TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=20,
)


def nested(depth: int) -> str:
    return '{"a":' * depth + '"}]"' + "}" * depth


def an_agent(spec: str = "{}", managed: str = "{}") -> bytes:
    """Return an object as the API server stores it, its texts full of what looks like structure."""
    share = f'{{"manager":"x","fieldsV1":{managed}}}'
    metadata = f'{{"name":"a","namespace":"n","resourceVersion":"7","generation":2,"managedFields":[{share}]}}'
    return (
        f'{{"apiVersion":"portside.dev/v1alpha1","kind":"AgentDeployment","metadata":{metadata},'
        f'"spec":{{"note":"]}}{{[\\"","affinity":{spec}}},"status":{{"url":"}}"}}}}'
    ).encode()


@given(st.text(st.characters(), max_size=50))
def test_a_body_is_the_same_text_as_json_and_as_yaml(text: str) -> None:
    as_go_has_it = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")

    body = encode({"text": text})

    assert json.loads(body) == {"text": as_go_has_it}
    # Characters that PyYAML does not accept as text, go-yaml accepts only as escapes.
    assert yaml.safe_load(body.decode()) == {"text": as_go_has_it}


@given(st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=9), JSON, max_size=4))
def test_a_document_within_bounds_is_read_unchanged(document: dict[str, Any]) -> None:
    text = json.dumps(document)

    assert decode(text.encode()) == json.loads(text)
    assert within_bounds(text.encode()) == text.encode()


@pytest.mark.parametrize("depth", [0, 10, MAX_DEPTH])
def test_an_object_within_bounds_is_whole(depth: int) -> None:
    raw = an_agent(nested(depth))

    assert decode(raw) == json.loads(raw)


@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 900, 1_200, 9_998, 100_000])
def test_an_object_nested_too_deeply_is_read_without_the_deep_part(depth: int) -> None:
    found = decode(an_agent(nested(depth)))

    assert found["metadata"] == {"name": "a", "namespace": "n", "resourceVersion": "7", "generation": 2}
    assert found["status"] == {"url": "}"}
    assert "spec" not in found
    with pytest.raises(InvalidAgentError, match=r"spec\.affinity: has more than"):
        parse(found)


def test_an_object_with_too_many_values_is_read_in_part() -> None:
    found = decode(an_agent("[" + ",".join(["{}"] * MAX_VALUES) + "]"))

    assert found["metadata"]["name"] == "a"
    assert found[UNREADABLE] == [["spec.affinity", "has more than 20,000 values: make it smaller"]]


@pytest.mark.parametrize("managed", [nested(5_000), "[" + ",".join(["{}"] * MAX_VALUES) + "]"])
def test_managed_fields_beyond_bounds_are_dropped(managed: str) -> None:
    found = decode(an_agent(managed=managed))

    assert "managedFields" not in found["metadata"]
    assert found["spec"] == {"note": ']}{["', "affinity": {}}
    assert UNREADABLE not in found


@pytest.mark.parametrize("bad", [nested(2_000), "[" + ",".join(["{}"] * (MAX_VALUES + 1)) + "]"])
def test_a_list_has_all_its_items(bad: str) -> None:
    good = an_agent(nested(3))
    raw = b'{"kind":"List","metadata":{"resourceVersion":"9"},"items":[%s, %s,%s]}' % (good, an_agent(bad), good)

    found = decode(raw)

    assert found["metadata"] == {"resourceVersion": "9"}
    assert [UNREADABLE in item for item in found["items"]] == [False, True, False]
    assert found["items"][0] == found["items"][2] == json.loads(good)
    assert [item["metadata"]["name"] for item in found["items"]] == ["a"] * 3


def test_a_large_list_of_small_items_is_read_unchanged() -> None:
    raw = b'{"items":[%s]}' % b",".join([an_agent(json.dumps(list(range(5_000))))] * 50)

    assert decode(raw) == json.loads(raw)


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"[]", b"null", b'"x"', b"<html>", b'{"a":' * 5_000, b"[" * 100_000, b"\xff"]
)
def test_anything_but_an_object_is_read_as_an_empty_one(raw: bytes) -> None:
    assert decode(raw) == {}


async def test_a_watch_yields_all_its_events() -> None:
    good = b'{"type":"ADDED","object":%s}' % an_agent()
    deep = b'{"type":"MODIFIED","object":%s}' % an_agent(nested(9_000))

    async def chunks() -> AsyncIterator[bytes]:
        text = good + b"\n" + deep + b"\n\n" + good
        for start in range(0, len(text), 1_000):
            yield text[start : start + 1_000]

    lines = b"".join([line async for line in lines_within_bounds(chunks())]).split(b"\n")
    found = [json.loads(line) for line in lines if line]

    assert lines[0] == lines[3] == good
    assert [each["type"] for each in found] == ["ADDED", "MODIFIED", "ADDED"]
    assert found[1]["object"]["metadata"]["resourceVersion"] == "7"
    assert UNREADABLE in found[1]["object"]


@pytest.mark.parametrize("depth", [1, MAX_DEPTH, MAX_DEPTH + 1, 50_000])
def test_the_depth_of_a_value_is_measured_at_any_depth(depth: int) -> None:
    value: Any = 1
    for _ in range(depth):
        value = [value]

    assert (excess(value) is None) == (depth <= MAX_DEPTH)
