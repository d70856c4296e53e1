"""The headers that the gateway passes on, in both directions. Pure."""

from collections.abc import Mapping

from multidict import CIMultiDict, CIMultiDictProxy

from agent_service.agent.claude.session import UNCOMPRESSED

_BETA = "anthropic-beta"

# All others stay here: keys, cookies, and what describes this connection or the turn. The model API is a third party.
_REQUEST = ("Accept", "Content-Type", "User-Agent", "anthropic-version", _BETA)
_SDK = "x-stainless-"

# Of one connection only (RFC 9110, 7.6.1), or for browsers, or set by the server itself.
_NOT_PASSED = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authentication-info",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "content-length",
        "content-encoding",
        "set-cookie",
        "alt-svc",
        "strict-transport-security",
        "date",
        "server",
    }
)
_OF_BROWSERS = "access-control-"


def betas(received: Mapping[str, str]) -> tuple[str, ...]:
    """Return the beta features that the caller enables."""
    return tuple(name.strip() for name in received.get(_BETA, "").split(",") if name.strip())


def of_request(received: Mapping[str, str], credential: Mapping[str, str]) -> dict[str, str]:
    """Return the headers of the call to the model API. A credential may need a beta feature besides the caller's."""
    passed = {name: received[name] for name in _REQUEST if name in received}
    passed.setdefault("Content-Type", "application/json")
    of_sdk = {name: value for name, value in received.items() if name.lower().startswith(_SDK)}
    found = {**passed, **of_sdk, **UNCOMPRESSED, **credential}
    if _BETA in credential and _BETA in received:
        found[_BETA] = ",".join(dict.fromkeys((*betas(received), *betas(credential))))
    return found


def of_answer(received: CIMultiDictProxy[str]) -> CIMultiDict[str]:
    """Return the headers of the answer to the caller."""
    named = {name.strip().lower() for name in received.get("Connection", "").split(",")}
    passed: CIMultiDict[str] = CIMultiDict()
    for name, value in received.items():
        lower = name.lower()
        if lower not in _NOT_PASSED and lower not in named and not lower.startswith(_OF_BROWSERS):
            passed.add(name, value)
    return passed
