"""Call a tool of the file, and report its failure to the model and to the log."""

import asyncio
import inspect
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import structlog
from mcp_types import CallToolResult

from agent_service.python_file.failures import describe
from agent_service.python_file.local_tools.definitions import LocalTool
from agent_service.python_file.local_tools.results import ResultError, failed, result_of
from agent_service.python_file.local_tools.schema import ArgumentsError
from agent_service.python_file.local_tools.threads import Threads

_log = structlog.get_logger(__name__)


async def call(tool: LocalTool, given: Mapping[str, Any], threads: Threads, file: Path) -> CallToolResult:
    """Return the result of a call, or its error. A call that is cancelled cancels an asynchronous function."""
    try:
        arguments = tool.arguments.read(given)
    except ArgumentsError as error:
        return failed(str(error))
    try:
        async with asyncio.timeout(tool.timeout) as limit:
            value = await _value(tool, partial(tool.function, **arguments), threads)
        return result_of(value)
    except ResultError as error:
        _log.error("Tool returned no result", tool=tool.name, place=tool.place, error=str(error))
        return failed(f"The tool {tool.name} failed: {error}")
    except TimeoutError as error:
        if limit.expired():
            _log.error("Tool exceeded its time", tool=tool.name, place=tool.place, seconds=tool.timeout)
            return failed(f"The tool {tool.name} did not finish within {tool.timeout:g} s.")
        return _failed(error, tool, file)
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:
        # The caller has left, or the process ends. The function may also raise this by itself.
        if isinstance(error, asyncio.CancelledError) and _is_cancelled():
            raise
        return _failed(error, tool, file)


async def _value(tool: LocalTool, function: Callable[[], Any], threads: Threads) -> Any:
    value = function() if tool.is_async else await threads.run(function)
    # A plain function may return the coroutine of another one.
    return await value if inspect.isawaitable(value) else value


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _failed(error: BaseException, tool: LocalTool, file: Path) -> CallToolResult:
    failure = describe(error, file)
    _log.error(
        "Tool raised an exception",
        tool=tool.name,
        file=failure.file,
        line=failure.line,
        error=failure.error,
        message=failure.message,
        traceback=failure.traceback,
    )
    reason = f"{failure.error}: {failure.message}" if failure.message else failure.error
    return failed(f"The tool {tool.name} failed: {reason}")
