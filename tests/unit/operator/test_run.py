"""Shutdown of `agent-operator run`."""

import asyncio
import logging
from collections.abc import AsyncGenerator

import pytest

from agent_operator.controller import run

OPTIONS = run.Options(namespaces=(), selector=None, lease=None, health_port=0)


async def _watch() -> AsyncGenerator[None]:
    try:
        yield
    except GeneratorExit:
        raise RuntimeError("generator didn't stop after athrow()") from None


def test_a_watch_that_does_not_close_on_shutdown_leaves_no_stack_trace_in_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    left_open = []

    async def serve(options: run.Options, main: object) -> None:
        left_open.append(_watch())
        await anext(left_open[0])

    monkeypatch.setattr(run, "_run", serve)
    monkeypatch.setattr(run, "GC_THRESHOLDS", (700, 10, 10))
    asyncio.run(run.run(OPTIONS))
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []
