"""Who may use a Python file's process, and the answers to callers that do not depend on what it serves."""

import ipaddress
from collections.abc import Mapping

BROKEN = "The agent's file has an error and cannot be loaded; its log has the details."

_NOT_FOR_BROWSERS = "Requests of web pages are refused."
_NOT_FOR_OTHERS = "Requests are accepted from this machine alone."


def refusal(headers: Mapping[str, str], address: str | None, *, loopback_only: bool) -> str | None:
    """Return why a request is refused; None if it is accepted.

    Args:
        headers: its headers, in a mapping that ignores their case.
        address: IP address of the caller.
        loopback_only: whether callers on other machines are refused.
    """
    # A page in a browser on this machine could otherwise use the agent (CSRF, DNS rebinding).
    if "Origin" in headers:
        return _NOT_FOR_BROWSERS
    if loopback_only and not _is_local(address):
        return _NOT_FOR_OTHERS
    return None


def _is_local(address: str | None) -> bool:
    try:
        found = ipaddress.ip_address(address or "")
    except ValueError:
        return False
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return (mapped or found).is_loopback
