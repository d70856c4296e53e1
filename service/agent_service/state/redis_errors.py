"""Map the errors of Redis servers to a few reasons, regardless of the server, its version and its wording.

Logs, `/health` and administrators distinguish these reasons. The server's message is never passed on, because it may
quote an argument, an address or a user name.
"""

import re
from collections.abc import Iterator
from typing import Literal, get_args

from redis.exceptions import AuthenticationError, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from agent_service.network.errors import failure_of

Reason = Literal[
    "full",
    "read_only",
    "not_permitted",
    "wrong_password",
    "cluster",
    "loading",
    "timed_out",
    "dns",
    "connection_refused",
    "no_route",
    "certificate",
    "tls",
    "unreachable",
    "refused",
]
REASONS: tuple[Reason, ...] = get_args(Reason)

DETAILS: dict[Reason, str] = {
    "full": "The Redis server does not accept writes: its memory or disk is full.",
    "read_only": "The Redis server does not accept writes: it is a replica, or it has too few replicas.",
    "not_permitted": "The Redis user lacks a permission, or the server a command, that the agent needs.",
    "wrong_password": "The Redis server does not accept the user name or the password.",
    "cluster": "The Redis server is part of a cluster: other nodes hold the agent's keys, or the database is not 0.",
    "loading": "The Redis server has started and is loading its data.",
    "timed_out": "The Redis server did not answer in time.",
    "dns": "The name of the Redis server cannot be resolved (DNS).",
    "connection_refused": "The address of the Redis server refuses connections.",
    "no_route": "There is no route to the address of the Redis server.",
    "certificate": "The certificate of the Redis server is not trusted. It was issued by an unknown CA "
    "(SSL_CERT_FILE), has expired, or is for another name.",
    "tls": "TLS with the Redis server failed. Check the scheme and the port of its address.",
    "unreachable": "There is no connection to the Redis server.",
    "refused": "The Redis server refused a command; the log names it.",
}

# The connection leads to a server that is no longer, or never was, the right one: after a failover, the old master
# keeps its connections open. A new connection resolves the host name again. The server has not executed the command.
ELSEWHERE: frozenset[Reason] = frozenset({"read_only", "cluster"})

# The first word of an error reply (Redis: "RESP protocol", simple errors).
_OF_CODE: dict[str, Reason] = {
    "OOM": "full",
    "MISCONF": "full",
    "READONLY": "read_only",
    "MASTERDOWN": "read_only",
    "NOREPLICAS": "read_only",
    "NOPERM": "not_permitted",
    "DENIED": "not_permitted",
    "NOAUTH": "wrong_password",
    "WRONGPASS": "wrong_password",
    "MOVED": "cluster",
    "ASK": "cluster",
    "TRYAGAIN": "cluster",
    "CLUSTERDOWN": "cluster",
    "CROSSSLOT": "cluster",
    "LOADING": "loading",
    "BUSY": "timed_out",
}

# For commands in a script, servers before Redis 7 put text before the code.
_CODE = re.compile(r"(?<![A-Za-z])(" + "|".join(_OF_CODE) + r")(?= )")

# Replies with the code ERR (Redis 6 and 7, Valkey): a command that a script may not run or the server does not know; a
# long command of a client that has not logged in; a database other than 0 in a cluster.
_OF_WORDS: tuple[tuple[re.Pattern[str], Reason], ...] = (
    (
        re.compile(r"ACL failure in script|user executing the script can't|no permissions", re.IGNORECASE),
        "not_permitted",
    ),
    (re.compile(r"unknown (redis )?command", re.IGNORECASE), "not_permitted"),
    (re.compile(r"unauthenticated (multi)?bulk length"), "wrong_password"),
    (re.compile(r"in cluster mode"), "cluster"),
)


def reason_of(error: BaseException) -> Reason:
    """Return the reason for an error of the server or of the connection to it.

    Args:
        error: an exception of redis-py or of the operating system.
    """
    if isinstance(error, AuthenticationError):
        return "wrong_password"
    if isinstance(error, RedisTimeoutError | TimeoutError):
        return "timed_out"
    if isinstance(error, RedisError):
        # redis-py removes the codes that it knows from the text.
        known = _OF_CODE.get(error.status_code or "")
        if known is not None:
            return known
        text = str(error)
        found = _CODE.search(text)
        if found is not None and isinstance(error, ResponseError):
            return _OF_CODE[found[1]]
        for words, reason in _OF_WORDS:
            if words.search(text):
                return reason
    return "refused" if isinstance(error, ResponseError) else _of_connection(error)


def _of_connection(error: BaseException) -> Reason:
    """Return the reason of a failed connection."""
    failure = failure_of(_causes(error))
    return "unreachable" if failure is None or failure == "disconnected" else failure


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and its causes. redis-py raises its own error while it handles the system's."""
    current: BaseException | None = error
    while current is not None:
        yield current
        current = current.__cause__ or current.__context__


class StateUnavailableError(Exception):
    """The Redis server cannot be reached, or cannot execute a command. The message is safe to show to a client.

    `reason` is for programs. `detail` is a sentence for the administrators of the agent; it never quotes the server.
    """

    def __init__(self, reason: Reason = "unreachable", detail: str | None = None) -> None:
        super().__init__("The state store of this agent cannot be reached; try again in a moment.")
        self.reason = reason
        self.detail = DETAILS[reason] if detail is None else detail


def is_wrong_type(error: ResponseError) -> bool:
    """Return whether the server refused a command because the value of the key has another type."""
    # redis-py removes the code of an error from its text, and keeps it in `status_code`.
    return getattr(error, "status_code", None) == "WRONGTYPE" or "wrong kind of value" in str(error)
