"""Orderly shutdown of the operator on SIGTERM and SIGINT."""

import asyncio
import signal
from typing import Any


def cancel_on_signals(task: "asyncio.Task[Any]") -> None:
    """Cancel the task when the process receives SIGTERM or SIGINT. The last call wins."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
