"""A stand-in for Amazon Bedrock, with both of its APIs. It verifies signatures by botocore, as AWS itself does.

API reference of Amazon Bedrock Runtime: InvokeModel, InvokeModelWithResponseStream, CountTokens. Format of the stream:
Smithy, "Amazon Event Stream Specification".
"""

import base64
import binascii
import json
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import unquote

from aiohttp import web
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from support.clouds.server import CloudServer, Received, Upstream, events, passed, running

REGION = "eu-central-1"
MOST_SKEW = timedelta(minutes=5)

_AUTHORIZATION = re.compile(r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\S+), SignedHeaders=(\S+), Signature=([0-9a-f]{64})")
_PATH = re.compile(r"/model/([^/]+)/(invoke|invoke-with-response-stream|count-tokens)")
_VERSION = "bedrock-2023-05-31"

_BASE = "/anthropic"
_MESSAGES = frozenset({f"{_BASE}/v1/messages", f"{_BASE}/v1/messages/count_tokens"})

_ERRORS = {
    400: (400, "ValidationException"),
    401: (403, "UnrecognizedClientException"),
    403: (403, "AccessDeniedException"),
    404: (404, "ResourceNotFoundException"),
    429: (429, "ThrottlingException"),
    503: (503, "ServiceUnavailableException"),
    504: (408, "ModelTimeoutException"),
    529: (503, "ServiceUnavailableException"),
}


@dataclass
class Account:
    """What the stand-in accepts: access keys with their secrets and tokens, and API keys. `counts` is whether its
    models support the counting of tokens."""

    keys: dict[str, tuple[str, str | None]] = field(default_factory=dict)
    api_keys: set[str] = field(default_factory=set)
    counts: bool = True


@contextmanager
def running_bedrock(account: Account, upstream_url: str) -> Iterator[CloudServer]:
    """Run the stand-in."""

    async def handle(request: web.Request, received: Received, upstream: Upstream) -> web.StreamResponse:
        refusal = _refusal(request, received, account)
        if refusal is not None:
            return _error(403, *refusal)
        if received.path in _MESSAGES:
            return await passed(await upstream.ask(received.path.removeprefix(_BASE), received.json()), request)
        path = _PATH.fullmatch(received.path)
        if path is None:
            return _error(404, "UnknownOperationException", "")
        model, operation = unquote(path[1]), path[2]
        body = received.json()
        if operation == "count-tokens":
            if not account.counts:
                return _error(400, "ValidationException", "The provided model doesn't support counting tokens.")
            body = json.loads(base64.b64decode(body["input"]["invokeModel"]["body"]))
        fault = _fault(body)
        if fault is not None:
            return _error(400, "ValidationException", fault)
        return await _answer(request, upstream, operation, {**body, "model": model})

    with running(handle, upstream_url) as server:
        yield server


async def _answer(
    request: web.Request, upstream: Upstream, operation: str, question: dict[str, Any]
) -> web.StreamResponse:
    question = {name: value for name, value in question.items() if not name.startswith("anthropic_")}
    streamed = operation == "invoke-with-response-stream"
    counts = operation == "count-tokens"
    if counts:
        del question["max_tokens"]
    path = "/v1/messages/count_tokens" if counts else "/v1/messages"
    answer = await upstream.ask(path, {**question, **({"stream": True} if streamed else {})})
    if answer.status >= 400:
        status, kind = _ERRORS.get(answer.status, (500, "InternalServerException"))
        return _error(status, kind, (await answer.json())["error"]["message"])
    if not streamed:
        found = await answer.json()
        return web.json_response({"inputTokens": found["input_tokens"]} if counts else found)
    response = web.StreamResponse(headers={"Content-Type": "application/vnd.amazon.eventstream"})
    await response.prepare(request)
    try:
        async for event in events(answer):
            if event["type"] == "error":
                await response.write(exception("serviceUnavailableException", event["error"]["message"]))
                break
            await response.write(chunk(event))
    finally:
        answer.close()
    await response.write_eof()
    return response


def _fault(body: dict[str, Any]) -> str | None:
    if body.get("anthropic_version") != _VERSION:
        return "anthropic_version: Field required"
    extra = next((name for name in ("model", "stream") if name in body), None)
    return None if extra is None else f"{extra}: Extra inputs are not permitted"


def _error(status: int, kind: str, message: str) -> web.Response:
    headers = {"x-amzn-ErrorType": f"{kind}:http://internal.amazon.com/coral/com.amazon.bedrock/"}
    return web.json_response({"message": message}, status=status, headers=headers)


def _refusal(request: web.Request, received: Received, account: Account) -> tuple[str, str] | None:
    """Return why a request is not authorized: the type of the error and its message."""
    given = request.headers.get("Authorization", "")
    if given.startswith("Bearer "):
        if given.removeprefix("Bearer ") in account.api_keys:
            return None
        return "AccessDeniedException", "Authentication failed: Please make sure your API Key is valid."
    match = _AUTHORIZATION.fullmatch(given)
    if match is None:
        return "MissingAuthenticationTokenException", "Missing Authentication Token"
    if match[1] not in account.keys:
        return "UnrecognizedClientException", "The security token included in the request is invalid."
    secret, token = account.keys[match[1]]
    if request.headers.get("X-Amz-Security-Token") != token:
        return "ExpiredTokenException", "The security token included in the request is expired"
    fault = _fault_of_signature(request, match, expected(request, received, secret, token))
    return None if fault is None else ("InvalidSignatureException", fault)


def _fault_of_signature(request: web.Request, given: re.Match[str], signature: str) -> str | None:
    at = request.headers["X-Amz-Date"]
    if given[2] != f"{at[:8]}/{REGION}/{_service(request.raw_path)}/aws4_request":
        return "Credential should be scoped to a valid region."
    if abs(datetime.now(UTC) - datetime.strptime(at, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)) > MOST_SKEW:
        return f"Signature expired: {at} is now earlier than the server's time"
    if not {"host", "x-amz-date"} <= set(given[3].split(";")) or given[4] != signature:
        return "The request signature we calculated does not match the signature you provided."
    return None


def expected(request: web.Request, received: Received, secret: str, token: str | None) -> str:
    """Return the signature that botocore calculates for a request as it was received."""
    match = _AUTHORIZATION.fullmatch(request.headers["Authorization"])
    assert match is not None
    headers = {name: request.headers[name] for name in match[3].split(";")}
    url = f"http://{request.headers['Host']}{received.path}"
    signed = AWSRequest(method=request.method, url=url, headers=headers, data=received.body)
    signed.context["timestamp"] = request.headers["X-Amz-Date"]
    auth = SigV4Auth(Credentials(match[1], secret, token), _service(received.path), REGION)
    return str(auth.signature(auth.string_to_sign(signed, auth.canonical_request(signed)), signed))


def _service(path: str) -> str:
    """Return the name of the service in the signature of a request."""
    return "bedrock-mantle" if path.startswith(_BASE) else "bedrock"


def chunk(event: dict[str, Any]) -> bytes:
    """Return the frame of an event of the model, whose padding hides its length as Bedrock's does."""
    payload = {"bytes": base64.b64encode(json.dumps(event).encode()).decode(), "p": "abcdef"}
    return frame({":event-type": "chunk", ":content-type": "application/json", ":message-type": "event"}, payload)


def exception(kind: str, message: str) -> bytes:
    """Return the frame of an exception within a stream."""
    headers = {":exception-type": kind, ":content-type": "application/json", ":message-type": "exception"}
    return frame(headers, {"message": message})


def frame(headers: dict[str, str], payload: dict[str, Any]) -> bytes:
    """Return a frame with text headers and a JSON payload."""
    head = b""
    for name, value in headers.items():
        head += struct.pack(">B", len(name)) + name.encode() + struct.pack(">BH", 7, len(value)) + value.encode()
    body = json.dumps(payload).encode()
    prelude = struct.pack(">II", 16 + len(head) + len(body), len(head))
    message = prelude + struct.pack(">I", binascii.crc32(prelude)) + head + body
    return message + struct.pack(">I", binascii.crc32(message))
