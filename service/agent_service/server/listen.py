"""Listening sockets: the port is bound first, and a failure is explained."""

import errno
import os
import socket
from contextlib import ExitStack

from agent_service.config.settings import Settings
from agent_service.lifecycle import StartError

_LOOPBACK = "127.0.0.1"
_ALL = "::"
_ALL_IPV4 = "0.0.0.0"  # noqa: S104  # where a pod listens

# Errors of a kernel without IPv6, or with IPv6 switched off.
_NO_IPV6 = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT})


class PortError(StartError):
    """The service cannot listen on an address and port."""


def bind(host: str, port: int, *, setting: str) -> socket.socket:
    """Return a socket that listens on the port.

    Call this before anything slow: clients that connect from now on wait until the service has started.

    Args:
        host: name or address of this machine; `::` for all addresses, IPv4 included, also where IPv6 is off.
        port: port number; 0 for any free port.
        setting: setting that chose the port, for the error message.

    Raises:
        PortError: when the port cannot be bound.
    """
    try:
        return _listen(host, port)
    except (UnicodeError, ValueError):
        # An invalid name, such as one with an empty label, raises UnicodeError.
        message = (
            f"Cannot listen on {host}: it is not a host name or address; set API_HOST to an address of this machine."
        )
        raise PortError(message) from None
    except OSError as error:
        if host == _ALL and _lacks_ipv6(error):
            return bind(_ALL_IPV4, port, setting=setting)
        if isinstance(error, socket.gaierror) or error.errno == errno.EAFNOSUPPORT:
            message = f"Cannot listen on {host}: {error.strerror}; set API_HOST to an address of this machine."
        elif error.errno == errno.EADDRINUSE:
            message = f"Port {port} is in use; stop the process that uses it, or choose another port with {setting}."
        elif error.errno == errno.EACCES:
            message = f"Port {port} requires privileges that this user lacks; choose one above 1023 with {setting}."
        else:
            reason = os.strerror(error.errno or 0)
            message = f"Cannot listen on {host} port {port}: {reason}; check API_HOST and {setting}."
        raise PortError(message) from None


def bind_gateway(settings: Settings, stack: ExitStack) -> socket.socket | None:
    """Return the socket of the gateway, which `stack` closes; None if there is no gateway.

    Raises:
        PortError: when the port cannot be bound.
    """
    if settings.gateway_port is None:
        return None
    return stack.enter_context(bind(_LOOPBACK, settings.gateway_port, setting="GATEWAY_PORT"))


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
            # Overrides net.ipv6.bindv6only. It has no effect on an address other than `::`.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind(address)
        # Immediately: several programs can be bound to a port until one of them listens.
        sock.listen()
    except OSError:
        sock.close()
        raise
    return sock
