"""What clients have used, as agents report it and as users see it. Pure."""

import csv
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

from pydantic import BaseModel

from agent_operator.tools.errors import ToolError

_SPAN = re.compile(r"([1-9][0-9]{0,4})([dh])")

# What a spreadsheet takes for the begin of a formula, in the forms of East Asian input methods as well, or skips in
# front of one (OWASP, "CSV Injection").
_FORMULA = re.compile("\\s*[=+\\-@\uff1d\uff0b\uff0d\uff20]|[\t\r\n]")


class Used(BaseModel):
    """What a client has used, as the agent reports it."""

    id: str
    name: str
    tenant: str | None
    requests: int
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    cost: float | None


class History(BaseModel):
    """The answer of a pod (`GET /usage/history`)."""

    since: date
    until: date
    store: str
    usage: list[Used]


@dataclass(frozen=True)
class Row:
    """What a client of an agent has used. The cost is None if the agent has no prices."""

    namespace: str
    agent: str
    tenant: str | None
    client: str
    client_id: str
    requests: int
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    cost: float | None


@dataclass(frozen=True)
class Usage:
    """What the clients of an agent have used, from one day to another; `problem` is why it cannot be read."""

    namespace: str
    agent: str
    since: date | None = None
    until: date | None = None
    rows: tuple[Row, ...] = ()
    problem: str | None = None


def first_day(given: str, now: datetime) -> date:
    """Return the day (UTC) on which a period until now begins, such as `7d`, `24h` or `2026-11-01`.

    Raises:
        ToolError: if it is none of these.
    """
    span = _SPAN.fullmatch(given)
    if span is not None:
        hours = int(span[1]) * (24 if span[2] == "d" else 1)
        return (now - timedelta(hours=hours)).date()
    return day(given)


def day(given: str) -> date:
    """Return the day that is named, such as `2026-11-01`.

    Raises:
        ToolError: if there is no such day.
    """
    try:
        return datetime.strptime(given, "%Y-%m-%d").replace(tzinfo=UTC).date()
    except ValueError:
        raise ToolError(f"{given!r} is not a day such as 2026-11-01, nor a number of days or hours: 7d, 24h.") from None


def merged(namespace: str, agent: str, answers: Iterable[History]) -> Usage:
    """Return the usage of an agent from the answers of its pods, of which several may share one state."""
    stores = list({answer.store: answer for answer in answers}.values())
    rows: dict[str, Row] = {}
    for used in (used for store in stores for used in store.usage):
        row = _row(namespace, agent, used)
        rows[used.id] = _sum(rows[used.id], row) if used.id in rows else row
    since, until = min(each.since for each in stores), max(each.until for each in stores)
    return Usage(namespace, agent, since, until, tuple(rows.values()))


def to_json(found: Sequence[Usage]) -> str:
    """Return the usage as JSON: `usage` has a row for each client, `agents` and `unreadable` one for each agent."""
    readable = [each for each in found if each.problem is None]
    document = {
        "usage": [asdict(row) for row in _sorted(found)],
        "agents": [
            {"namespace": each.namespace, "agent": each.agent, "since": str(each.since), "until": str(each.until)}
            for each in readable
        ],
        "unreadable": [
            {"namespace": each.namespace, "agent": each.agent, "reason": each.problem}
            for each in found
            if each.problem is not None
        ],
    }
    return json.dumps(document, indent=2, ensure_ascii=False)


def to_csv(found: Sequence[Usage]) -> str:
    """Return the usage as CSV (RFC 4180), with line feeds, whose text no spreadsheet takes for a formula."""
    text = io.StringIO()
    rows = csv.DictWriter(text, [field.name for field in fields(Row)], lineterminator="\n")
    rows.writeheader()
    for row in _sorted(found):
        rows.writerow({name: _cell(value) for name, value in asdict(row).items()})
    return text.getvalue()


def to_table(found: Sequence[Usage]) -> str:
    """Return the usage as a table for people."""
    header = (*("NAMESPACE", "AGENT", "TENANT", "CLIENT"), *_NUMBERS)
    lines = [header, *(_line(row) for row in _sorted(found))]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join("   ".join(_padded(line, widths)).rstrip() for line in lines)


_NUMBERS = ("REQUESTS", "INPUT", "OUTPUT", "CACHE-READ", "CACHE-WRITE", "COST")
_TEXTS = 4


def _line(row: Row) -> tuple[str, ...]:
    numbers = (row.requests, row.input_tokens, row.output_tokens, row.cache_read_tokens, row.cache_write_tokens)
    cost = "-" if row.cost is None else f"{row.cost:.2f}"
    return (row.namespace, row.agent, row.tenant or "-", row.client, *map(str, numbers), cost)


def _padded(line: Sequence[str], widths: Sequence[int]) -> list[str]:
    """Return the cells of a line, with numbers at the right."""
    return [
        cell.ljust(width) if column < _TEXTS else cell.rjust(width)
        for column, (cell, width) in enumerate(zip(line, widths, strict=True))
    ]


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        # No exponent: Redis counts billionths.
        return f"{value:.9f}".rstrip("0").rstrip(".")
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) else str(value)


def _sorted(found: Iterable[Usage]) -> list[Row]:
    rows = (row for each in found for row in each.rows)
    return sorted(rows, key=lambda row: (row.namespace, row.agent, row.tenant or "", row.client, row.client_id))


def _row(namespace: str, agent: str, used: Used) -> Row:
    values: Mapping[str, Any] = used.model_dump(exclude={"id", "name"})
    return Row(namespace=namespace, agent=agent, client=used.name, client_id=used.id, **values)


def _sum(one: Row, other: Row) -> Row:
    costs = [cost for cost in (one.cost, other.cost) if cost is not None]
    return replace(
        one,
        requests=one.requests + other.requests,
        input_tokens=one.input_tokens + other.input_tokens,
        output_tokens=one.output_tokens + other.output_tokens,
        cache_read_tokens=one.cache_read_tokens + other.cache_read_tokens,
        cache_write_tokens=one.cache_write_tokens + other.cache_write_tokens,
        cost=sum(costs) if costs else None,
    )
