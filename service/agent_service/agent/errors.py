"""Errors of a turn with the model, with messages that a client may see.

`outcome` is the value of the metrics label. `kind` is more specific and appears in responses, logs and `/health`.
Messages are fixed sentences: they contain no key, no user input, and no text of the model API or a gateway.
"""


class ModelError(Exception):
    """The turn failed. The message describes what happened, in our own text only.

    `kind` is one word for the problem. `upstream` is the response of the model API, a gateway or the network. It is for
    the log and never for a client, because it may contain internal addresses, keys and names of people.
    """

    outcome = "error"

    def __init__(self, message: str, *, kind: str | None = None, upstream: str | None = None) -> None:
        super().__init__(message)
        self.kind = kind or self.outcome
        self.upstream = upstream


class ModelRefusedError(ModelError):
    """The model API refused the request; a retry with the same input would not help."""

    outcome = "refused"


class ModelDeclinedError(ModelRefusedError):
    """The model itself declined to answer (stop reason `refusal`)."""

    outcome = "declined"


class NotOfferedError(ModelRefusedError):
    """The provider does not have the model (404), or its account cannot pay for it (402). Another provider may."""


class PromptTooLongError(ModelRefusedError):
    """The prompt, including the conversation history, is longer than the model accepts."""

    outcome = "too_long"


class UnsupportedInputError(ModelRefusedError):
    """The message has content that this agent does not take."""

    outcome = "unsupported"


class CredentialsRefusedError(ModelRefusedError):
    """The model API itself, in its own format, rejects our key (401) or does not permit the request (403)."""

    outcome = "credentials_refused"


class ModelFailedError(ModelError):
    """The model API failed internally, or broke off its answer."""

    outcome = "failed"


class RateLimitedError(ModelError):
    """The model API rate-limits us. `retry_after` is in whole seconds, if the model API sent one."""

    outcome = "rate_limited"

    def __init__(self, message: str, retry_after: int | None = None, *, upstream: str | None = None) -> None:
        super().__init__(message, upstream=upstream)
        self.retry_after = retry_after


class OverloadedError(RateLimitedError):
    """The model API is overloaded (529) or temporarily unavailable (503)."""

    outcome = "overloaded"


class BudgetUsedUpError(RateLimitedError):
    """The agent's budget was used up within the turn. `retry_after` is the time until its next period."""

    outcome = "budget"


class UnreachableError(ModelError):
    """The model API cannot be reached."""

    outcome = "unreachable"


class TimedOutError(ModelError):
    """The answer was not complete within the time limit."""

    outcome = "timed_out"


def _outcomes(kind: type[ModelError]) -> set[str]:
    return {kind.outcome}.union(*map(_outcomes, kind.__subclasses__()))


OUTCOMES = tuple(sorted(_outcomes(ModelError)))
"""Every outcome of a failed turn in the metrics."""
