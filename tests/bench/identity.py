"""What an agent without a key costs: its first answer after a cold start, and its exchanges of tokens."""

import asyncio
import statistics
import tempfile
from pathlib import Path

from agent_service.agent.claude.credentials import Token
from agent_service.agent.claude.renewal import Renewed
from agent_service.config.settings import Settings
from bench import targets
from bench.report import Results
from stand_in import running_stand_in
from support.clouds.places import PROVIDERS, rendered_settings, running_place

_MODEL = str(Settings.model_fields["default_model"].default)
_LIVES_SECONDS = (600, 3600, 43_200)
_HOURS = 24


def measure(results: Results, *, rounds: int) -> None:
    """Add the table of first answers, each a median of `rounds` starts, and that of renewals."""
    # Not the bench's own model: clouds count tokens for the health check.
    with running_stand_in() as model:
        rows = [_row(provider, model.url, rounds) for provider in PROVIDERS]
    columns = ["", "key in a Secret", "workload identity", "added"]
    results.add("From the start of the process to its first answer, ms", columns, rows)
    results.add(
        "Renewals of a credential, in moved time, a request each second",
        ["life of the credential, s", "renewals per hour"],
        [[life, asyncio.run(_renewals_per_hour(life))] for life in _LIVES_SECONDS],
    )


def _row(provider: str, model_url: str, rounds: int) -> list[object]:
    # In turns, so that other work on the machine affects both alike.
    pairs = [
        [_first_answer(provider, model_url, with_key=with_key) for with_key in (True, False)] for _ in range(rounds)
    ]
    with_key, without = (statistics.median(times) * 1000 for times in zip(*pairs, strict=True))
    added = statistics.median(after - before for before, after in pairs) * 1000
    return [provider, with_key, without, added]


def _first_answer(provider: str, model_url: str, *, with_key: bool) -> float:
    with tempfile.TemporaryDirectory(prefix="portside-bench-") as folder:
        secrets = Path(folder) / "secrets"
        secrets.mkdir()
        with running_place(provider, secrets, model_url, model=_MODEL, with_key=with_key) as access:
            spec = {"agent": {"environment": "testing", **access}, "apiKey": {"secretName": "key"} if with_key else {}}
            return targets.first_answer_seconds(Path(folder), rendered_settings(spec, secrets))


async def _renewals_per_hour(life: float) -> float:
    now, exchanges = 0.0, 0

    async def exchange(origin: object) -> tuple[Token, float]:
        nonlocal exchanges
        exchanges += 1
        return Token(f"token-{exchanges}", "one"), life

    credentials = Renewed(lambda: "one", exchange, clock=lambda: now)
    for second in range(_HOURS * 3600):
        now = float(second)
        await credentials.current()
        # A renewal goes on in a task of its own.
        await asyncio.sleep(0)
    return (exchanges - 1) / _HOURS
