"""What can go wrong in a turn with the model, in words that a client may see.

`outcome` is the value of the metrics label. `kind` is finer, and for answers, logs and `/health`. Texts are fixed
sentences: they name neither a key, nor what the user wrote, nor what the model API or a gateway said.
"""


class ModelError(Exception):
    """The turn failed. The message is what happened, in our words alone.

    `kind` is one word for it. `upstream` is what the model API, a gateway or the network answered: for the log, and for
    no client. It may name internal addresses, keys and people.
    """

    outcome = "error"

    def __init__(self, message: str, *, kind: str | None = None, upstream: str | None = None) -> None:
        super().__init__(message)
        self.kind = kind or self.outcome
        self.upstream = upstream


class ModelRefusedError(ModelError):
    """The model API answered, and would not do it; asking again with the same input would not help."""

    outcome = "refused"


class ModelDeclinedError(ModelRefusedError):
    """The model itself declined to answer (stop reason `refusal`)."""

    outcome = "declined"


class PromptTooLongError(ModelRefusedError):
    """The prompt, with what was said before, is longer than the model can take."""

    outcome = "too_long"


class CredentialsRefusedError(ModelRefusedError):
    """The model API itself, in its own format, does not accept our key (401) or does not allow it this (403)."""

    outcome = "credentials_refused"


class ModelFailedError(ModelError):
    """The model API failed inside, or broke off its answer."""

    outcome = "failed"


class RateLimitedError(ModelError):
    """The model API limits us. `retry_after` is in whole seconds, when it said so."""

    outcome = "rate_limited"

    def __init__(self, message: str, retry_after: int | None = None, *, upstream: str | None = None) -> None:
        super().__init__(message, upstream=upstream)
        self.retry_after = retry_after


class OverloadedError(RateLimitedError):
    """The model API is overloaded (529) or away for a moment (503)."""

    outcome = "overloaded"


class UnreachableError(ModelError):
    """There is no connection to the model API."""

    outcome = "unreachable"


class TimedOutError(ModelError):
    """The answer was not complete within the time limit."""

    outcome = "timed_out"


def _outcomes(kind: type[ModelError]) -> set[str]:
    return {kind.outcome}.union(*map(_outcomes, kind.__subclasses__()))


OUTCOMES = tuple(sorted(_outcomes(ModelError)))
"""What a turn that failed can be counted as."""
