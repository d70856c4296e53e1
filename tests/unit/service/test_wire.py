"""How long the model API asks clients to wait, and why a connection to it failed."""

import errno
import socket
import ssl
import time
from email.utils import formatdate

import aiohttp
import httpx2
import pytest
from aiohttp.client_reqrep import ConnectionKey
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from agent_service.agent.claude.connection import KINDS, CertificateFileError, failed, kind_of, unreachable
from agent_service.agent.claude.retry_after import retry_after
from agent_service.agent.errors import ModelFailedError, UnreachableError


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7),
        ("7.2", 8),
        ("0", 0),
        ("0.0000001", 1),
        ("inf", 3600),
        ("Infinity", 3600),
        ("1e300", 3600),
        ("9" * 400, 3600),
        ("-5", 0),
        ("-inf", 0),
        ("Wed, 21 Oct 2099 07:28:00 GMT", 3600),
        ("Wed, 21 Oct 2099 07:28:00", 3600),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0),
        ("Wed, 99 Oct 2099 07:28:00 GMT", None),
        ("Wed, 21 Oct 99999999 07:28:00 GMT", None),
        ("Wed, 21 Oct 2099 07:28:00 +9999999", None),
        ("nan", None),
        ("soon", None),
        ("0x10", None),
        ("3, 5", None),
        ("", None),
    ],
)
def test_retry_after_is_a_bounded_number_of_seconds_or_none(value: str, seconds: int | None) -> None:
    assert retry_after(httpx2.Response(429, headers={"retry-after": value})) == seconds


def test_the_more_precise_header_takes_precedence_and_a_missing_one_is_none() -> None:
    assert retry_after(httpx2.Response(429, headers={"retry-after": "9", "retry-after-ms": "1500"})) == 2
    assert retry_after(httpx2.Response(429, headers={"retry-after": "9", "retry-after-ms": "nan"})) == 9
    assert retry_after(httpx2.Response(429)) is None


def test_a_date_is_converted_to_the_seconds_until_then() -> None:
    date = formatdate(time.time() + 600, usegmt=True)
    assert 500 < (retry_after(httpx2.Response(429, headers={"retry-after": date})) or 0) <= 600


KEY = ConnectionKey("models.example", 443, True, True, None, None, None)


def connecting(error: OSError) -> aiohttp.ClientConnectorError:
    return aiohttp.ClientConnectorError(KEY, error)


def caused(cause: BaseException) -> httpx2.ConnectError:
    """Return the error as the SDK's transport raises it."""
    error = httpx2.ConnectError("words")
    error.__cause__ = cause
    return error


UNTRUSTED = ssl.SSLCertVerificationError(1, "certificate verify failed: unable to get local issuer certificate")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (aiohttp.ClientConnectorCertificateError(KEY, UNTRUSTED), "certificate"),
        (connecting(UNTRUSTED), "certificate"),
        (aiohttp.ClientConnectorSSLError(KEY, ssl.SSLError(1, "wrong version number")), "tls"),
        (aiohttp.ClientConnectorDNSError(KEY, socket.gaierror(-2, "Name or service not known")), "dns"),
        (connecting(ConnectionRefusedError(errno.ECONNREFUSED, "Connect call failed")), "connection_refused"),
        (connecting(OSError(errno.ENETUNREACH, "unreachable")), "no_route"),
        (connecting(OSError(errno.EHOSTUNREACH, "unreachable")), "no_route"),
        (connecting(OSError(errno.ETIMEDOUT, "timed out")), "connect_timeout"),
        (connecting(OSError("Multiple exceptions: [Errno 101] Connect, [Errno 111] Connect")), "connection_refused"),
        (aiohttp.ConnectionTimeoutError("timed out"), "connect_timeout"),
        (aiohttp.ClientProxyConnectionError(KEY, ConnectionRefusedError(errno.ECONNREFUSED, "no")), "proxy"),
        (aiohttp.ServerDisconnectedError(), "disconnected"),
        (aiohttp.ClientOSError(errno.ECONNRESET, "reset"), "disconnected"),
        (CertificateFileError("/nowhere/ca.crt"), "certificate_file"),
        (aiohttp.ClientConnectionError("words"), "connection"),
        (OSError(), "connection"),
    ],
)
def test_each_cause_of_a_failed_connection_has_its_kind(error: Exception, kind: str) -> None:
    assert kind_of(error) == kind
    found = failed(caused(error))
    assert isinstance(found, UnreachableError)
    assert found.kind == kind


def test_a_response_that_is_not_http_is_a_protocol_error() -> None:
    url = URL("http://models.example")
    request = aiohttp.RequestInfo(url, "POST", CIMultiDictProxy(CIMultiDict()), url)
    found = failed(caused(aiohttp.ClientResponseError(request, (), status=400, message="Bad status line")))
    assert isinstance(found, ModelFailedError)
    assert found.kind == "protocol"


def test_each_kind_has_its_own_sentence_without_details_of_the_network() -> None:
    sentences = {str(unreachable(kind, upstream="private words")) for kind in KINDS}
    assert len(sentences) == len(KINDS)
    assert all(sentence.startswith("Cannot connect to the model API") for sentence in sentences)
    assert not any("private" in sentence for sentence in sentences)


def test_a_cyclic_chain_of_errors_ends() -> None:
    one, other = OSError("one"), OSError("other")
    one.__cause__, other.__cause__ = other, one
    assert kind_of(one) == "connection"
