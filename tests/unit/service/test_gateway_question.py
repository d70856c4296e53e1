"""What the gateway reads in a body, and that it changes only the bytes that it must."""

import json

import pytest

from agent_service.gateway.question import UnreadableError, read

ODD = (
    b'{ "messages" : [{"role":"user","content":"\\u00fc \\ud800 { \\"max_tokens\\": 999999 } [ \\\\"}], '
    b'"tools":[{"name":"t","input_schema":{"model":"x","max_tokens":1e9,"stream":true}}],\t"max_tokens" : 50,'
    b'\n"thinking":{"type":"enabled","budget_tokens":1024},"model":"m\\u0031", "zeta":1,"alpha":1.50 }'
)


def test_a_body_is_passed_on_byte_for_byte() -> None:
    question = read(ODD, most_tokens=50, mark=False)

    assert (question.content, question.model, question.streamed) == (ODD, "m1", False)


def test_a_higher_limit_of_tokens_is_lowered_where_it_is_and_nowhere_else() -> None:
    question = read(ODD, most_tokens=49, mark=False)

    assert question.content == ODD.replace(b'"max_tokens" : 50', b'"max_tokens" : 49')


@pytest.mark.parametrize("written", [b"64001", b"1e9", b"70000.0", b"99999999999999999999999"])
def test_every_number_that_is_too_high_is_lowered(written: bytes) -> None:
    body = b'{"model":"m","max_completion_tokens":%s,"max_tokens":%s}' % (written, written)

    lowered = read(body, most_tokens=64000, mark=False).content

    assert lowered == b'{"model":"m","max_completion_tokens":64000,"max_tokens":64000}'


def test_a_field_whose_name_is_escaped_is_found() -> None:
    question = read(b'{"mod\\u0065l":"m","stre\\u0061m":true,"max_\\u0074okens":9}', most_tokens=5, mark=False)

    assert (question.model, question.streamed) == ("m", True)
    assert question.content.endswith(b'"max_\\u0074okens":5}')


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'"model"',
        b'{"messages":[]}',
        b'{"model":1}',
        b'{"model":""}',
        b'{"a":{"model":"m"}}',
        b'{"model":"m","model":"n"}',
        b'{"model":"m","mod\\u0065l":"n"}',
        b'{"model":"m","max_tokens":1,"max_tokens":2}',
        b'{"model',
        b'{"model"',
        b'{"model":',
    ],
)
def test_a_body_that_cannot_be_read_for_certain_is_refused(body: bytes) -> None:
    with pytest.raises(UnreadableError):
        read(body, most_tokens=100, mark=False)


def test_a_long_prompt_is_marked_for_the_cache_and_a_short_one_is_not() -> None:
    short = b'{"model":"m","messages":[]}'
    long = b' {"model":"m","system":"%s"}' % (b"x" * 5000)

    marked = read(long, most_tokens=100, mark=True)

    assert read(short, most_tokens=100, mark=True).content == short
    assert read(long, most_tokens=100, mark=False).content == long
    assert json.loads(marked.content) == {"cache_control": {"type": "ephemeral"}, **json.loads(long)}
    assert marked.content.replace(b'"cache_control":{"type":"ephemeral"},', b"") == long
    assert marked.without_mark().content == long


def test_a_prompt_that_the_caller_marks_itself_is_left_as_it_is() -> None:
    block = {"type": "text", "text": "x" * 5000, "cache_control": {"type": "ephemeral", "ttl": "1h"}}
    body = json.dumps({"model": "m", "system": [block]}).encode()

    assert read(body, most_tokens=100, mark=True).content == body


def test_the_words_cache_control_in_a_text_are_no_mark() -> None:
    body = json.dumps({"model": "m", "system": 'Write "cache_control". ' + "x" * 5000}).encode()

    assert read(body, most_tokens=100, mark=True).unmarked == body
