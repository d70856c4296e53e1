"""Messages of other programs in our log: readable, on one line, without secrets and without users' text."""

import pytest

from agent_service.telemetry.redact import for_log


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("http://bob:pa:ss@gateway/v1 is away", "pa:ss"),
        ("GET /v1?api_key=abc1&x=1", "abc1"),
        ('{"password": "hunter2"}', "hunter2"),
        ("Authorization: Basic Ym9iOmh1bnRlcjI=", "Ym9i"),
        ("sent Bearer abc.def", "abc.def"),
        ("key sk-ant-api03-abc... is over its limit", "api03"),
        ("key AKIAIOSFODNN7EXAMPLE", "IOSFODNN"),
        ("token=eyJhbGciOiJIUzI1NiJ9.e30.x", "eyJhbGciOiJIUzI1NiJ9"),
        ("9f86d081884c7d659a2feaa0c55ad015 is not valid", "9f86d081"),
        ("our own key my-short-key", "my-short-key"),
    ],
)
def test_a_secret_in_a_message_of_another_program_is_masked(text: str, secret: str) -> None:
    masked = for_log(text, known=["my-short-key"])
    assert secret not in masked
    assert "***" in masked


def test_text_without_secrets_is_unchanged() -> None:
    text = "messages.0: max_tokens: 200000 > 64000, for claude-sonnet-4-5-20250929 (see docs.example/limits)"
    assert for_log(text) == text
    assert for_log("two\nlines\u202e \x1b[31mred") == "two lines [31mred"
    assert len(for_log("word " * 1000)) <= 300


def test_messages_that_quote_a_user_are_withheld() -> None:
    message = "My private plan is to sail at dawn."
    assert "sail" not in for_log(f"content filter: {message[3:30]!r} is not allowed", private=[message])
    assert for_log("content filter: not allowed", private=[message]) == "content filter: not allowed"
