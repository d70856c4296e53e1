"""Names of tools, results in the form of the model API, and addresses that are refused: pure functions."""

import re

import mcp_types as types
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_service.network.refused_addresses import is_refused
from agent_service.tooling.listing import select
from agent_service.tooling.naming import offered_names
from agent_service.tooling.results import converted

MODEL_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
SERVERS = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,30}[a-z0-9])?", fullmatch=True)
# Few letters, so that names collide, and those that separate and are replaced.
TOOLS = st.text(st.sampled_from("ab_./é"), min_size=1, max_size=100)


@given(st.dictionaries(SERVERS, st.lists(TOOLS, unique=True, max_size=8), max_size=4), st.lists(TOOLS, max_size=3))
def test_names_are_unique_and_acceptable_to_a_model_api(servers: dict[str, list[str]], taken: list[str]) -> None:
    names = offered_names(servers, taken)

    assert names.keys() == {(server, tool) for server, tools in servers.items() for tool in tools}
    assert len(set(names.values())) == len(names)
    assert all(map(MODEL_NAME.fullmatch, names.values()))
    assert not set(names.values()) & set(taken)


def test_a_name_is_the_original_one_where_it_is_unique() -> None:
    names = offered_names({"memory": ["memory", "read.file", "search"], "web": ["search"]})

    assert set(names.values()) == {"memory", "read_file", "memory__search", "web__search"}


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254",
        "fe80::1%eth0",
        "::ffff:169.254.1.1",
        "64:ff9b::a9fe:a9fe",
        "2002:a9fe:a9fe::",
        "fd00:ec2::254",
    ],
)
def test_link_local_and_metadata_addresses_are_refused(address: str) -> None:
    assert is_refused(address)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "10.0.0.1", "192.0.2.1", "2001:db8::1", "fd00::1"])
def test_other_addresses_are_not_refused(address: str) -> None:
    assert not is_refused(address)


@given(st.lists(st.text(max_size=3000), max_size=5), st.integers(1024, 4096))
def test_texts_of_a_result_fit_into_its_limit(texts: list[str], most_bytes: int) -> None:
    content: list[types.ContentBlock] = [types.TextContent(type="text", text=text) for text in texts]
    blocks = converted(types.CallToolResult(content=content), most_bytes, str)
    size = sum(len(block["text"].encode()) for block in blocks if not block["text"].startswith("["))

    assert blocks
    assert size <= most_bytes
    assert all(block["text"].strip() for block in blocks)


def test_an_image_that_does_not_fit_is_left_out_with_a_note() -> None:
    image = types.ImageContent(type="image", mime_type="image/png", data="A" * 4000)
    (block,) = converted(types.CallToolResult(content=[image]), 1024, str)

    assert block["text"] == "[image (image/png, 3000 bytes) left out: larger than the limit of the result]"


def test_data_that_is_no_base64_is_left_out() -> None:
    image = types.ImageContent(type="image", mime_type="image/png", data="no base64!")
    (block,) = converted(types.CallToolResult(content=[image]), 1024, str)

    assert block["type"] == "text"


def test_structured_content_counts_where_there_is_no_other() -> None:
    (block,) = converted(types.CallToolResult(content=[], structured_content={"a": 1}), 1024, str)

    assert block["text"] == '{"a":1}'


def test_a_result_of_many_pieces_is_cut() -> None:
    content: list[types.ContentBlock] = [types.TextContent(type="text", text="x")] * 1000
    blocks = converted(types.CallToolResult(content=content), 4096, str)

    assert blocks[-1]["text"] == "[900 more pieces of content left out]"


def test_the_order_of_a_list_does_not_depend_on_the_order_in_which_the_server_sends_it() -> None:
    tools = [(name, "", {"type": "object"}) for name in "cab"]

    assert [tool.name for tool in select(tools, ["*"]).tools] == ["a", "b", "c"]
