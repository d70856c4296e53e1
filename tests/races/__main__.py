"""Run `python -m races [--times N] PATH… [OPTION…]`: the tests marked `timing`, N times, while every core is busy.

Paths and options are pytest's. The exit code is 1 when any run failed, and 2 when there was nothing to run.
"""

import subprocess
import sys
import time
from dataclasses import dataclass

import click
import pytest

from races.busy import busy_cores


@dataclass(frozen=True)
class Run:
    """How one repetition ended."""

    number: int
    exit_code: int
    seconds: float

    @property
    def line(self) -> str:
        """A line of the summary."""
        outcome = "passed" if self.exit_code == 0 else f"FAILED (pytest's exit code {self.exit_code})"
        return f"  run {self.number}: {outcome} after {self.seconds:.0f} s"


def repeat(times: int, words: list[str]) -> list[Run]:
    """Run pytest so many times beside busy cores, and go on after a failure: a race is found by its rate."""
    command = [sys.executable, "-m", "pytest", "-m", "timing", "-p", "no:cacheprovider", *words]
    runs = []
    for number in range(1, times + 1):
        begin = time.monotonic()
        with busy_cores():
            exit_code = subprocess.run(command, check=False).returncode
        runs.append(Run(number, exit_code, time.monotonic() - begin))
    return runs


def exit_code_of(runs: list[Run]) -> int:
    """Return 0 when every run passed, 2 when a run had no test, else 1."""
    codes = {run.exit_code for run in runs}
    if pytest.ExitCode.NO_TESTS_COLLECTED in codes:
        return 2
    return 0 if codes == {0} else 1


@click.command(context_settings={"ignore_unknown_options": True})
@click.option("--times", type=click.IntRange(1, 100), default=1, show_default=True, help="How often.")
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
def main(times: int, words: tuple[str, ...]) -> None:
    """Repeat the timing-sensitive tests while every core is busy."""
    runs = repeat(times, list(words))
    failed = sum(run.exit_code != 0 for run in runs)
    click.echo(f"Timing-sensitive tests beside busy cores: {len(runs) - failed} of {len(runs)} runs passed.")
    for run in runs:
        click.echo(run.line)
    sys.exit(exit_code_of(runs))


if __name__ == "__main__":
    main()
