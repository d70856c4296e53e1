"""Why a service-account token could not be exchanged: the step that failed, and what to do. Pure."""

import re
from collections.abc import Sequence
from types import MappingProxyType

from agent_service.agent.errors import CredentialsRefusedError, ModelFailedError

TOKEN_SERVICE = "the token service"  # noqa: S105  a name for messages

_SENTENCES = MappingProxyType(
    {
        "no_identity_token": "The service-account token (IDENTITY_TOKEN_FILE) is missing, or is not a token: check the "
        "volume of the pod that contains it.",
        "identity_token_expired": "The service-account token has expired: the kubelet did not replace it, or the clock "
        "of the node is wrong.",
        "clock_off": f"The clocks of this node and of {TOKEN_SERVICE} differ by more than a minute: correct the clock "
        "of the node.",
        "issuer_refused": f"The issuer of the service-account token is not known to {TOKEN_SERVICE}, or its keys "
        "cannot be fetched from there: register the issuer of the cluster, whose keys must be public.",
        "audience_refused": f"The service-account token is not for the audience that {TOKEN_SERVICE} expects: set "
        "agent.credentials.workloadIdentity.audience to the audience that is registered there.",
        "identity_not_trusted": f"This ServiceAccount is not trusted by {TOKEN_SERVICE}: allow its subject in the "
        "trust policy of the role, account or rule that the agent uses.",
        "identity_refused": f"The service-account token was refused by {TOKEN_SERVICE}: its answer is in the log of "
        "the agent.",
    }
)

KINDS = tuple(_SENTENCES)
"""Every `kind` of a refused token."""

CLOCK_SECONDS = 60.0
"""A difference of clocks that explains a refusal. Tokens are valid from the second in which they were issued."""

Words = Sequence[tuple[str, str]]
"""Regular expressions for the answers of a token service, each with the kind that it means. The first match counts."""


def refused(kind: str, place: str = TOKEN_SERVICE, *, upstream: str | None = None) -> CredentialsRefusedError:
    """Return the error for a kind. `place` is the token service, and `upstream` its answer, for the log."""
    return CredentialsRefusedError(_SENTENCES[kind].replace(TOKEN_SERVICE, place), kind=kind, upstream=upstream)


def of_answer(text: str, place: str, words: Words, *, skew_seconds: float = 0.0) -> CredentialsRefusedError:
    """Return the error for a refusal.

    Args:
        text: the answer of the token service.
        place: its name.
        words: what its answers mean.
        skew_seconds: by how much our clock is ahead of its clock.
    """
    found = next((kind for pattern, kind in words if re.search(pattern, text, re.IGNORECASE)), "identity_refused")
    if found in {"identity_refused", "identity_token_expired"} and abs(skew_seconds) > CLOCK_SECONDS:
        found, text = "clock_off", f"our clock is {skew_seconds:.0f} s ahead; {text}"
    return refused(found, place, upstream=text)


def unreadable(place: str) -> ModelFailedError:
    """Return the error for an answer that is not in the format of the token service."""
    return ModelFailedError(f"The answer of {place} could not be read.", kind="unreadable")
