"""Run the file's function for one turn, and check what it returns or yields."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path

import structlog

from agent_service.agent.messages import sendable
from agent_service.python_file.answer_function import Loaded
from agent_service.python_file.failures import describe
from portside import Turn

_log = structlog.get_logger(__name__)

MOST_BYTES = 16 * 2**20
"""The largest answer that Portside reads from a runtime."""


class AnswerError(Exception):
    """The file's function failed. The message is a fixed sentence for the caller; the details are in the log."""


_FAILED = "The agent's file raised an error; its log has the details."
_WRONG_TYPE = "The agent's file returned something other than text."
_TOO_LARGE = f"The answer of the agent's file exceeds {MOST_BYTES // 2**20} MiB."


async def pieces_of(loaded: Loaded, turn: Turn, file: Path) -> AsyncGenerator[str]:
    """Yield the text of the answer as the file's function produces it.

    Raises:
        AnswerError: if the function raises an exception, or its answer is no text or too long.
    """
    size = 0
    try:
        async with aclosing(_call(loaded, turn)) as pieces:
            async for piece in pieces:
                text = _checked(piece, loaded, turn)
                size += len(text.encode())
                _check_size(size, loaded, turn)
                yield text
    except (AnswerError, GeneratorExit, KeyboardInterrupt):
        raise
    except BaseException as error:
        # The caller has left, or the process ends. The file's function may also raise this by itself.
        if isinstance(error, asyncio.CancelledError) and _is_cancelled():
            raise
        _report(error, turn, file)
        raise AnswerError(_FAILED) from None


async def _call(loaded: Loaded, turn: Turn) -> AsyncGenerator[object]:
    if not loaded.yields:
        yield await loaded.answer(turn)
        return
    async with aclosing(loaded.answer(turn)) as pieces:
        async for piece in pieces:
            yield piece


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _checked(piece: object, loaded: Loaded, turn: Turn) -> str:
    if isinstance(piece, str):
        return sendable(piece)
    # A function without `return` returns None.
    verb, wanted = ("yielded", "yield") if loaded.yields else ("returned", "return")
    error = f"TypeError: `answer` {verb} {type(piece).__name__}; it must {wanted} str"
    _log.error("Agent's file returned no text", place=loaded.place, error=error, request_id=turn.request_id)
    raise AnswerError(_WRONG_TYPE)


def _check_size(size: int, loaded: Loaded, turn: Turn) -> None:
    if size > MOST_BYTES:
        _log.error(
            "Answer of the agent's file is too large",
            place=loaded.place,
            most_bytes=MOST_BYTES,
            request_id=turn.request_id,
        )
        raise AnswerError(_TOO_LARGE)


def _report(error: BaseException, turn: Turn, file: Path) -> None:
    failure = describe(error, file)
    _log.error(
        "Agent's file raised an exception",
        file=failure.file,
        line=failure.line,
        error=failure.error,
        message=failure.message,
        traceback=failure.traceback,
        request_id=turn.request_id,
    )
