"""Listening: the port is taken first, and what stands in the way is said in words."""

import errno
import os
import socket

from agent_service.lifecycle import StartError

_ALL = "::"
_ALL_IPV4 = "0.0.0.0"  # noqa: S104  # where a pod listens

# What the kernel answers where IPv6 is not built in, or switched off.
_NO_IPV6 = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT})


class PortError(StartError):
    """There is no listening on that address and port."""


def bind(host: str, port: int, *, setting: str) -> socket.socket:
    """Take the port before anything slow happens. Who connects from now on waits until the service has started.

    Args:
        host: name or address of this machine; `::` for all of them, IPv4 included, also where IPv6 is off.
        port: 0 takes any that is free.
        setting: what the port was chosen with, for the words of an error.

    Raises:
        PortError: when it cannot be had.
    """
    try:
        return _listen(host, port)
    except (UnicodeError, ValueError):
        # A name that is none, such as one with an empty label, is a UnicodeError.
        message = (
            f"Cannot listen on {host}: it is no name or address of a host; set API_HOST to an address of this machine."
        )
        raise PortError(message) from None
    except OSError as error:
        if host == _ALL and _lacks_ipv6(error):
            return bind(_ALL_IPV4, port, setting=setting)
        if isinstance(error, socket.gaierror) or error.errno == errno.EAFNOSUPPORT:
            message = f"Cannot listen on {host}: {error.strerror}; set API_HOST to an address of this machine."
        elif error.errno == errno.EADDRINUSE:
            message = f"Port {port} is in use; stop what uses it, or choose another with {setting}."
        elif error.errno == errno.EACCES:
            message = f"Port {port} needs rights that this user lacks; choose one above 1023 with {setting}."
        else:
            reason = os.strerror(error.errno or 0)
            message = f"Cannot listen on {host} port {port}: {reason}; check API_HOST and {setting}."
        raise PortError(message) from None


def _lacks_ipv6(error: OSError) -> bool:
    return isinstance(error, socket.gaierror) or error.errno in _NO_IPV6


def _listen(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # Whatever net.ipv6.bindv6only says. It changes nothing for an address other than `::`.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind(address)
        # At once: until one of them listens, several programs can be bound to a port.
        sock.listen()
    except OSError:
        sock.close()
        raise
    return sock
