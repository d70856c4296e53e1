"""Tool calls that wait, as `kubectl agent approvals` prints them."""

from datetime import UTC, datetime, timedelta

import pytest

from agent_operator.tools.agent_api import first_key
from agent_operator.tools.approvals.calls import Place, Waiting, to_text

NOW = datetime(2026, 11, 30, 8, tzinfo=UTC)


def lines(age: timedelta = timedelta(), left: timedelta = timedelta(), tool: str = "order") -> list[str]:
    call = Waiting(
        id="1.1",
        client="c",
        conversation_id="talk",
        tool=tool,
        server="shop",
        input={"item": "Tee\ngrün"},
        created_at=NOW - age,
        expires_at=NOW + left,
    )
    return to_text([call], NOW).splitlines()


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(-5, "0s"), (0, "0s"), (119, "119s"), (120, "2m"), (7199, "119m"), (7200, "2h"), (172_800, "2d"), (604_800, "7d")],
)
def test_spans_are_shown_in_their_largest_sensible_unit(seconds: int, shown: str) -> None:
    found = lines(age=timedelta(seconds=seconds), left=timedelta(seconds=seconds))

    assert found[-2:] == [f"Age:        {shown}", f"Expires in: {shown}"]


def test_arguments_are_shown_exactly() -> None:
    assert 'Arguments:  {"item": "Tee\\ngrün"}' in lines()


def test_a_line_break_in_a_name_does_not_look_like_another_field() -> None:
    assert lines(tool="order\nArguments:  {}").count("Arguments:  {}") == 0


def test_an_id_is_one_segment_of_the_path() -> None:
    assert Place("conversation", "a/b?c").path == "chat/a%2Fb%3Fc/approvals"
    assert Place("task", "t").path == "tasks/t/approvals"


@pytest.mark.parametrize(("keys", "key"), [(None, None), ("", None), (" ,\n", None), ("a,b", "a"), ("\n a \nb", "a")])
def test_the_first_of_several_client_keys_is_sent(keys: str | None, key: str | None) -> None:
    assert first_key(keys) == key
