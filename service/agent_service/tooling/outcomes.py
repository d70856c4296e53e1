"""How a call can end: the label of the metrics, and the sentence for the model."""

from agent_service.tooling.exchange import Failure

OUTCOME_OF = {
    Failure.UNREACHABLE: "unavailable",
    Failure.SESSION_LOST: "unavailable",
    Failure.ADDRESS_REFUSED: "unavailable",
    Failure.REDIRECTED: "unavailable",
    Failure.CREDENTIALS: "unauthorized",
    Failure.UNAUTHORIZED: "unauthorized",
    Failure.REFUSED: "refused",
    Failure.ANSWERED_WITH_ERROR: "refused",
    Failure.TOO_LARGE: "too_large",
    Failure.UNREADABLE: "unreadable",
    Failure.FAILED: "failed",
    Failure.LOST: "lost",
    Failure.TIMED_OUT: "timed_out",
}

OUTCOMES = ("ok", "error", "unknown_tool", "not_approved", "cancelled", *dict.fromkeys(OUTCOME_OF.values()))
"""Every outcome. `error` is a result in which the tool itself reports an error."""

SENTENCE_OF = {
    Failure.UNREACHABLE: "The tool's server cannot be reached.",
    Failure.SESSION_LOST: "The tool's server ended the session.",
    Failure.ADDRESS_REFUSED: "The address of the tool's server is not allowed.",
    Failure.REDIRECTED: "The tool's server answered with a redirect, which is not followed.",
    Failure.CREDENTIALS: "The credentials for the tool's server are not available.",
    Failure.UNAUTHORIZED: "The tool's server refused the credentials (status {status}).",
    Failure.REFUSED: "The tool's server refused the request (status {status}).",
    Failure.ANSWERED_WITH_ERROR: "The tool's server answered with an error:",
    Failure.TOO_LARGE: "The result is larger than {limit} bytes and was discarded.",
    Failure.UNREADABLE: "The result could not be read.",
    Failure.FAILED: "The tool's server failed (status {status}).",
    Failure.LOST: "The connection was lost before the result arrived.",
    Failure.TIMED_OUT: "The result did not arrive in time.",
}
