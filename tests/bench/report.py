"""Results as Markdown, and the machine and versions that they apply to."""

import datetime
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import click

from testbed import paths
from testbed.console import say

_OURS = ("fastapi", "uvicorn", "uvloop", "anthropic", "aiohttp", "redis", "orjson")


class Results:
    """The tables and the targets of a run. Each is printed at once."""

    def __init__(self) -> None:
        self.tables: list[str] = []
        self._verdicts: list[list[object]] = []

    def add(self, title: str, columns: list[str], rows: list[list[object]]) -> None:
        """Keep a table."""
        self.tables.append(table(title, columns, rows))
        click.echo(self.tables[-1])

    def judge(self, target: str, found: str, met: bool) -> None:
        """Record the result for a target."""
        self._verdicts.append([target, found, "met" if met else "not met"])
        say(f"    {target}: {found}, {'met' if met else 'not met'}")

    def finish(self, title: str) -> None:
        """Add the table of all targets, if there are any."""
        if self._verdicts:
            self.add(title, ["target", "found", ""], self._verdicts)


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a table with a title. Numbers are aligned right, with significant digits only."""
    lines = [f"### {title}", "", _row(columns), _row(["---", *["---:"] * (len(columns) - 1)])]
    lines += [_row([_cell(value) for value in row]) for row in rows]
    return "\n".join([*lines, ""])


def circumstances(module: str = "bench", packages: Sequence[str] = _OURS) -> str:
    """Return the date, machine and versions of a measurement by one of our modules."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=paths.REPOSITORY, capture_output=True, text=True, check=False
    ).stdout.strip()
    now = datetime.datetime.now(datetime.UTC)
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in packages)
    load = ", ".join(f"{value:.2f}" for value in os.getloadavg())
    return (
        f"{now:%Y-%m-%d %H:%M} UTC, commit {commit}, `{shlex.join(['python', '-m', module, *sys.argv[1:]])}`. "
        f"{os.cpu_count()} cores ({_processor()}), {platform.system()} {platform.release().split('-')[0]}, "
        f"Python {platform.python_version()}; {versions}. Load average before it began: {load}.\n"
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _cell(value: object) -> str:
    if not isinstance(value, float):
        return f"{value:,}" if isinstance(value, int) else str(value)
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
