"""Messages between a supervisor and its API processes, over a private pair of sockets."""

import pickle
import socket
import struct
from dataclasses import dataclass
from enum import Enum

from agent_service.config.settings import Settings

# The heartbeat of a healthy process, and its period. The first beat means that the process answers requests.
BEAT = b"."
BEAT_SECONDS = 1.0

_LENGTH = struct.Struct("!I")


@dataclass(frozen=True, slots=True)
class Assignment:
    """What a process needs to start.

    `slot` is its number among the processes, which its replacement takes over. `listener` is the file descriptor of
    the socket to listen on, and `gateway` that of the gateway's socket; None if there is no gateway.
    """

    settings: Settings
    slot: int
    listener: int
    gateway: int | None = None


class Order(Enum):
    """An order to a running process. A closed link also means DRAIN, because the supervisor has ended."""

    DRAIN = b"d"
    CUT = b"c"


def packed(assignment: Assignment) -> bytes:
    """Return an assignment as the bytes to send."""
    content = pickle.dumps(assignment)
    return _LENGTH.pack(len(content)) + content


def receive_assignment(link: socket.socket) -> Assignment:
    """Wait for the assignment and return it, without reading what follows it.

    Raises:
        ConnectionError: when the supervisor has ended.
    """
    [length] = _LENGTH.unpack(_exactly(link, _LENGTH.size))
    # The sender started this process, and could equally have started any other code.
    assignment = pickle.loads(_exactly(link, length))  # noqa: S301
    if not isinstance(assignment, Assignment):
        raise TypeError(type(assignment).__name__)
    return assignment


def _exactly(link: socket.socket, length: int) -> bytes:
    received = link.recv(length, socket.MSG_WAITALL)
    if len(received) < length:
        raise ConnectionError("The supervisor ended.")
    return received
