"""SIGTERM and SIGINT end the operator in order."""

import asyncio
import signal
from typing import Any


def cancel_on_signals(task: "asyncio.Task[Any]") -> None:
    """Have the task cancelled when the process is told to end. The last call counts."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
