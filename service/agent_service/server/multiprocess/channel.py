"""What a supervisor and its API processes say to each other, over a pair of sockets that nobody else has."""

import pickle
import socket
import struct
from dataclasses import dataclass
from enum import Enum

from agent_service.config.settings import Settings

# How often a process says that it is well. Its first word says that it answers requests.
BEAT = b"."
BEAT_SECONDS = 1.0

_LENGTH = struct.Struct("!I")


@dataclass(frozen=True, slots=True)
class Assignment:
    """What a process is started for.

    `place` is its number among the processes, which a successor takes over; `listener` is the file descriptor of the
    socket to listen on.
    """

    settings: Settings
    place: int
    listener: int


class Order(Enum):
    """What a process is told later. A link that ends means DRAIN too: the supervisor is gone."""

    DRAIN = b"d"
    CUT = b"c"


def packed(assignment: Assignment) -> bytes:
    """Give an assignment as it is sent."""
    content = pickle.dumps(assignment)
    return _LENGTH.pack(len(content)) + content


def receive_assignment(link: socket.socket) -> Assignment:
    """Wait for the assignment, and read nothing that follows it.

    Raises:
        ConnectionError: when the supervisor is gone.
    """
    [length] = _LENGTH.unpack(_exactly(link, _LENGTH.size))
    # From the process that started this one: it could as well have told us to run anything else.
    assignment = pickle.loads(_exactly(link, length))  # noqa: S301
    if not isinstance(assignment, Assignment):
        raise TypeError(type(assignment).__name__)
    return assignment


def _exactly(link: socket.socket, length: int) -> bytes:
    received = link.recv(length, socket.MSG_WAITALL)
    if len(received) < length:
        raise ConnectionError("The supervisor ended.")
    return received
