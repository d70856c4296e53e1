"""The reason of each Redis error, by the replies of Redis 6 and 7, Valkey and managed services."""

import re
import socket
import ssl
from pathlib import Path

import pytest
from redis._parsers.base import BaseParser
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

import agent_service
from agent_service.state.redis_errors import DETAILS, REASONS, reason_of

PACKAGE = Path(agent_service.__file__).parent

REPLIES = {
    "OOM command not allowed when used memory > 'maxmemory'.": "full",
    "OOM command not allowed when used memory > 'maxmemory'. script: f871bc71, on @user_script:1.": "full",
    "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.": "full",
    "ERR Error running script (call to f_a1): @user_script:1: -OOM command not allowed when used memory": "full",
    "READONLY You can't write against a read only replica.": "read_only",
    "ERR Error running script (call to f_a1): @user_script: 3: -READONLY You can't write against": "read_only",
    "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.": "read_only",
    "NOREPLICAS Not enough good replicas to write.": "read_only",
    "NOPERM No permissions to access a channel": "not_permitted",
    "NOPERM this user has no permissions to run the 'zadd' command": "not_permitted",
    "NOPERM User a has no permissions to run the 'zadd' command": "not_permitted",
    "ERR ACL failure in script: No permissions to access a channel script: on @user_script:1.": "not_permitted",
    "ERR The user executing the script can't run this command or subcommand script: e4f": "not_permitted",
    "ERR unknown command 'EVALSHA', with args beginning with: ": "not_permitted",
    "ERR Unknown Redis command called from script script: e4f, on @user_script:1.": "not_permitted",
    "DENIED Redis is running in protected mode because protected mode is enabled": "not_permitted",
    "WRONGPASS invalid username-password pair or user is disabled.": "wrong_password",
    "NOAUTH Authentication required.": "wrong_password",
    "ERR invalid password": "wrong_password",
    "ERR Protocol error: unauthenticated multibulk length": "wrong_password",
    "ERR Client sent AUTH, but no password is set": "wrong_password",
    "MOVED 3999 127.0.0.1:6381": "cluster",
    "ASK 3999 127.0.0.1:6381": "cluster",
    "CLUSTERDOWN Hash slot not served": "cluster",
    "TRYAGAIN Multiple keys request during rehashing of slot": "cluster",
    "CROSSSLOT Keys in request don't hash to the same slot": "cluster",
    "ERR SELECT is not allowed in cluster mode": "cluster",
    "LOADING Redis is loading the dataset in memory": "loading",
    "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.": "timed_out",
    "ERR max number of clients reached": "unreachable",
    "ERR value is not an integer or out of range": "refused",
    "WRONGTYPE Operation against a key holding the wrong kind of value": "refused",
    "You never saw such a server": "refused",
}


# For a name with several addresses, asyncio raises one error.
REFUSED_V6 = "[Errno 111] Connect call failed ('::1', 6379, 0, 0)"
REFUSED = "[Errno 111] Connect call failed ('127.0.0.1', 6379)"
NO_ROUTE_V6 = "[Errno 101] Connect call failed ('2001:db8::1', 6379, 0, 0)"
NO_ROUTE = "[Errno 113] Connect call failed ('192.0.2.1', 6379)"


def _connecting(error: OSError) -> Exception:
    """Return the exception that redis-py raises for an error of the system."""
    try:
        try:
            raise error
        except OSError as caught:
            raise RedisConnectionError(str(caught))  # noqa: B904  as redis-py has it
    except RedisConnectionError as raised:
        return raised


@pytest.mark.parametrize("reply", REPLIES)
def test_each_reply_of_a_server_has_its_reason(reply: str) -> None:
    error: Exception = BaseParser.parse_error(reply)  # type: ignore[no-untyped-call]
    assert reason_of(error) == REPLIES[reply]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RedisTimeoutError("Timeout reading"), "timed_out"),
        (TimeoutError(), "timed_out"),
        (RedisConnectionError("Connection closed by server."), "unreachable"),
        (ConnectionRefusedError(111, "Connection refused"), "connection_refused"),
        (_connecting(ConnectionRefusedError(111, "Connection refused")), "connection_refused"),
        (_connecting(OSError(113, "No route to host")), "no_route"),
        (_connecting(OSError(101, "Network is unreachable")), "no_route"),
        (_connecting(socket.gaierror(-2, "Name or service not known")), "dns"),
        (_connecting(ssl.SSLCertVerificationError(1, "certificate verify failed")), "certificate"),
        (_connecting(ssl.SSLError(1, "wrong version number")), "tls"),
        (_connecting(OSError(f"Multiple exceptions: {REFUSED_V6}, {REFUSED}")), "connection_refused"),
        (_connecting(OSError(f"Multiple exceptions: {NO_ROUTE_V6}, {REFUSED}")), "connection_refused"),
        (_connecting(OSError(f"Multiple exceptions: {NO_ROUTE_V6}, {NO_ROUTE}")), "no_route"),
        (_connecting(ConnectionResetError(104, "Connection reset by peer")), "unreachable"),
    ],
)
def test_each_connection_error_has_its_reason(error: Exception, reason: str) -> None:
    assert reason_of(error) == reason


def test_each_reason_has_a_sentence() -> None:
    assert set(DETAILS) == set(REASONS)
    assert all(re.fullmatch(r"[A-Z].*\.", sentence) for sentence in DETAILS.values())


def test_the_check_covers_every_command_of_the_scripts_and_the_code() -> None:
    scripts = {each.name: each.read_text() for each in PACKAGE.rglob("*.lua")}
    code = "".join(each.read_text() for each in PACKAGE.rglob("*.py"))
    check = scripts.pop("check.lua")
    used = set(re.findall(r"redis\.p?call\('([A-Z]+)'", "".join(scripts.values())))
    used |= set(re.findall(r"redis\.call\(\"([A-Z]+)\"", code))
    tried = set(re.findall(r"\{'([A-Z]+)'|try\([^,]+, '([A-Z]+)'|redis\.call\('([A-Z]+)'", check))
    assert used <= {name for names in tried for name in names}


def test_no_script_publishes_in_a_way_that_could_fail_its_completed_writes() -> None:
    scripts = list(PACKAGE.rglob("*.lua"))
    assert scripts
    assert not [each.name for each in scripts if "redis.call('PUBLISH'" in each.read_text()]
