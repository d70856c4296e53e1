"""Our errors as those of A2A."""

import pytest
from a2a.utils.errors import (
    A2AError,
    InternalError,
    InvalidParamsError,
    TaskNotFoundError,
    UnsupportedOperationError,
)

from agent_service.agent.errors import PromptTooLongError
from agent_service.chat.approval_errors import DecidedError, NotAllowedError, UnknownApprovalError
from agent_service.compat.a2a.errors import UnavailableError, translated
from agent_service.compat.error_forms import FORMS
from agent_service.middleware.error_form import Problem
from agent_service.state.redis_errors import StateUnavailableError
from agent_service.tasks.following import UnknownTaskError
from agent_service.tasks.queue import QueueFullError


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (NotAllowedError(), UnsupportedOperationError),
        (DecidedError("It was rejected before."), UnsupportedOperationError),
        (UnknownApprovalError(), InvalidParamsError),
        (PromptTooLongError("Too long."), InvalidParamsError),
        (UnknownTaskError(), TaskNotFoundError),
        (QueueFullError(), UnavailableError),
        (StateUnavailableError(), UnavailableError),
        (TaskNotFoundError("Not here."), TaskNotFoundError),
    ],
)
def test_an_error_keeps_its_sentence(error: Exception, kind: type[A2AError]) -> None:
    with pytest.raises(kind) as raised, translated():
        raise error

    assert str(raised.value) == str(error)


def test_an_unexpected_error_shows_nothing_of_itself() -> None:
    with pytest.raises(InternalError) as raised, translated():
        raise ValueError("a-secret-word")

    assert "a-secret-word" not in repr(raised.value)


@pytest.mark.parametrize(
    ("status", "name"),
    [(401, "UNAUTHENTICATED"), (413, "INVALID_ARGUMENT"), (429, "RESOURCE_EXHAUSTED"), (503, "UNAVAILABLE")],
)
def test_what_no_method_has_answered_is_a_status_of_google_rpc(status: int, name: str) -> None:
    error = FORMS["a2a_rest"].error(Problem(status, "A sentence.", None, "", None))

    assert error == {"error": {"code": status, "status": name, "message": "A sentence."}}
