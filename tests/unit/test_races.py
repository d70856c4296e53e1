"""`make test-races`: its busy loops end, and a failed run is reported even if the others pass."""

import os
import time

import pytest

from races.__main__ import Run, exit_code_of
from races.busy import burn


def test_a_busy_loop_ends_by_itself_and_without_its_parent() -> None:
    begin = time.monotonic()
    burn(os.getppid(), seconds=0.05)
    assert time.monotonic() - begin >= 0.05
    burn(parent=-1)


@pytest.mark.parametrize(("codes", "expected"), [((0, 0), 0), ((0, 1, 0), 1), ((5, 5), 2)])
def test_any_run_that_failed_or_had_no_test_fails_all(codes: tuple[int, ...], expected: int) -> None:
    assert exit_code_of([Run(number, code, 1.0) for number, code in enumerate(codes)]) == expected
