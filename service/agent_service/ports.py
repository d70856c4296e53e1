"""Listening: the port is taken first, and what stands in the way is said in words."""

import errno
import os
import socket

from agent_service.lifecycle import StartError


class PortError(StartError):
    """There is no listening on that address and port."""


def bind(host: str, port: int, *, setting: str) -> socket.socket:
    """Take the port before anything slow happens. Who connects from now on waits until the service has started.

    Args:
        host: name or address of this machine.
        port: 0 takes any that is free.
        setting: what the port was chosen with, for the words of an error.

    Raises:
        PortError: when it cannot be had.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        sock = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError, ValueError) as error:
        # A name that is none, such as one with an empty label, is a UnicodeError.
        reason = getattr(error, "strerror", None) or "it is no name or address of a host"
        raise PortError(f"Cannot listen on {host}: {reason}; set API_HOST to an address of this machine.") from None
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind(address)
        # At once: until one of them listens, several programs can be bound to a port.
        sock.listen()
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            message = f"Port {port} is in use; stop what uses it, or choose another with {setting}."
        elif error.errno == errno.EACCES:
            message = f"Port {port} needs rights that this user lacks; choose one above 1023 with {setting}."
        else:
            reason = os.strerror(error.errno or 0)
            message = f"Cannot listen on {host} port {port}: {reason}; check API_HOST and {setting}."
        raise PortError(message) from None
    return sock
