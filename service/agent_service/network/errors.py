"""The reason of a failed connection, from exceptions of the operating system and of `ssl`. Pure."""

import errno
import re
import socket
import ssl
from collections.abc import Iterable
from typing import Literal

Failure = Literal["certificate", "tls", "dns", "connection_refused", "timed_out", "no_route", "disconnected"]

# The first match wins, so subclasses are before their parents.
_OF_TYPE: tuple[tuple[type[BaseException], Failure], ...] = (
    (ssl.SSLCertVerificationError, "certificate"),
    (ssl.SSLError, "tls"),
    (socket.gaierror, "dns"),
    # asyncio raises these without an errno when the peer aborts a TLS handshake.
    (ConnectionAbortedError, "disconnected"),
    (ConnectionResetError, "disconnected"),
)

# The most informative first: an address that refuses connections exists; an address without a route may be of an
# address family that the machine does not have.
_OF_NUMBER: tuple[tuple[frozenset[int], Failure], ...] = (
    (frozenset({errno.ECONNREFUSED}), "connection_refused"),
    (frozenset({errno.ETIMEDOUT}), "timed_out"),
    (frozenset({errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL}), "no_route"),
    (frozenset({errno.ECONNRESET, errno.EPIPE, errno.ECONNABORTED}), "disconnected"),
)

# asyncio and aiohappyeyeballs join the errors of several addresses into one message, without an errno.
_IN_TEXT = re.compile(r"\[Errno (\d+)\]")


def failure_of(errors: Iterable[BaseException]) -> Failure | None:
    """Return the reason of a failed connection.

    Args:
        errors: the exception and its causes, in any order.

    Returns:
        The reason, or None if no error is from the operating system or `ssl`.
    """
    known = list(errors)
    for kind, failure in _OF_TYPE:
        if any(isinstance(each, kind) for each in known):
            return failure
    numbers = {number for each in known if isinstance(each, OSError) for number in _numbers(each)}
    return next((failure for some, failure in _OF_NUMBER if numbers & some), None)


def _numbers(error: OSError) -> list[int]:
    return [error.errno] if error.errno is not None else [int(number) for number in _IN_TEXT.findall(str(error))]
