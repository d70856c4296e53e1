"""What clients have used, as a table, as CSV and as JSON."""

import csv
import io
import json
from datetime import UTC, date, datetime
from typing import Any

import pytest

from agent_operator.tools.errors import ToolError
from agent_operator.tools.usage.rows import History, Usage, day, first_day, merged, to_csv, to_json, to_table

NOW = datetime(2030, 11, 30, 0, 30, tzinfo=UTC)


def used(client: str = "acme/web", **changes: Any) -> dict[str, Any]:
    numbers = dict.fromkeys(("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens"), 0)
    return {"id": client, "name": client, "tenant": None, "requests": 1, **numbers, "cost": None, **changes}


def history(*rows: dict[str, Any], store: str = "one", since: str = "2030-11-01") -> History:
    return History.model_validate({"since": since, "until": "2030-11-30", "store": store, "usage": list(rows)})


@pytest.mark.parametrize(
    ("given", "first"),
    [
        ("7d", date(2030, 11, 23)),
        ("24h", date(2030, 11, 29)),
        ("1h", date(2030, 11, 29)),
        ("2030-11-01", date(2030, 11, 1)),
    ],
)
def test_a_period_begins_with_a_whole_day(given: str, first: date) -> None:
    assert first_day(given, NOW) == first


@pytest.mark.parametrize("given", ["", "7", "0d", "-1d", "7w", "2030-11-31", "2030-W01", "yesterday", "999999999d"])
def test_another_period_is_refused(given: str) -> None:
    with pytest.raises(ToolError, match="7d, 24h"):
        first_day(given, NOW)
    with pytest.raises(ToolError, match="2026-11-01"):
        day(given)


def test_pods_with_one_state_count_once_and_others_are_added_up() -> None:
    shared = history(used(output_tokens=5, cost=0.5))
    own = history(used(output_tokens=7, cost=0.25), used("other"), store="two", since="2030-11-03")

    found = merged("prod", "hello", [shared, shared, own])

    rows = {row.client: (row.requests, row.output_tokens, row.cost) for row in found.rows}
    assert rows == {"acme/web": (2, 12, 0.75), "other": (1, 0, None)}
    assert (found.since, found.until) == (date(2030, 11, 1), date(2030, 11, 30))


@pytest.mark.parametrize(
    "name", ["=1+1", "+1", "-1", "@SUM(A1)", "  =1", "\N{FULLWIDTH EQUALS SIGN}1", '=HYPERLINK("https://x","y")']
)
def test_no_name_is_a_formula_in_a_spreadsheet(name: str) -> None:
    found = merged("prod", "hello", [history(used(name, tenant=name))])

    (row,) = csv.DictReader(io.StringIO(to_csv([found])))

    assert {row["client"], row["client_id"], row["tenant"]} == {f"'{name}"}
    assert json.loads(to_json([found]))["usage"][0]["client"] == name


def test_csv_has_every_number_as_a_plain_decimal_and_quotes_separators() -> None:
    tiny = history(used('a,"b"', cost=0.000000001, input_tokens=10**15), used("whole", cost=12.0), used("free"))

    text = to_csv([merged("prod", "hello", [tiny])])
    tokens = "input_tokens,output_tokens,cache_read_tokens,cache_write_tokens"

    assert text.splitlines() == [
        f"namespace,agent,tenant,client,client_id,requests,{tokens},cost",
        'prod,hello,,"a,""b""","a,""b""",1,1000000000000000,0,0,0,0.000000001',
        "prod,hello,,free,free,1,0,0,0,0,",
        "prod,hello,,whole,whole,1,0,0,0,0,12",
    ]


def test_json_names_the_agents_that_could_not_be_read() -> None:
    found = [merged("prod", "hello", [history(used())]), Usage("prod", "mute", problem="It has no key.")]

    document = json.loads(to_json(found))

    assert document["agents"] == [{"namespace": "prod", "agent": "hello", "since": "2030-11-01", "until": "2030-11-30"}]
    assert document["unreadable"] == [{"namespace": "prod", "agent": "mute", "reason": "It has no key."}]
    assert set(document["usage"][0]) == {
        *("namespace", "agent", "tenant", "client", "client_id", "requests", "input_tokens", "output_tokens"),
        *("cache_read_tokens", "cache_write_tokens", "cost"),
    }


def test_the_table_has_numbers_at_the_right_and_rows_in_order() -> None:
    found = merged("prod", "hello", [history(used("web", output_tokens=12345, cost=1.5), used("batch", tenant="acme"))])

    assert to_table([found]).splitlines() == [
        "NAMESPACE   AGENT   TENANT   CLIENT   REQUESTS   INPUT   OUTPUT   CACHE-READ   CACHE-WRITE   COST",
        "prod        hello   -        web             1       0    12345            0             0   1.50",
        "prod        hello   acme     batch           1       0        0            0             0      -",
    ]
