"""A stand-in for Vertex AI and for Google's token endpoint, which checks what Google's does.

Google: "Using OAuth 2.0 for Server to Server Applications"; Vertex AI, `rawPredict` of publisher models.
"""

import json
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote

import aiohttp
from aiohttp import web
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.auth import jwt

from support.clouds.server import CloudServer, Received, Upstream, passed, running

PROJECT, REGION = "project-one", "europe-west1"
TOKEN_PATH = "/token"

_PATH = re.compile(rf"/v1/projects/{PROJECT}/locations/{REGION}/publishers/anthropic/models/([^/:]+):(\w+)")
_VERSION = "vertex-2023-10-16"
_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_SCOPE = "https://www.googleapis.com/auth/cloud-platform"

_STATUSES = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND"}
_STATUSES |= {429: "RESOURCE_EXHAUSTED", 500: "INTERNAL", 503: "UNAVAILABLE", 504: "DEADLINE_EXCEEDED"}
_LIMITS = {529: 429}


@dataclass
class ServiceAccount:
    """A service account with one key. `lifetime` is that of its tokens, `down` whether none can be had now."""

    email: str = "agent@project-one.iam.gserviceaccount.com"
    key: rsa.RSAPrivateKey = field(default_factory=lambda: rsa.generate_private_key(65537, 2048))
    lifetime: int = 3600
    down: bool = False
    tokens: set[str] = field(default_factory=set)

    def file(self, url: str) -> str:
        """Return the JSON file of the key, with the token endpoint of a stand-in."""
        return json.dumps(
            {
                "type": "service_account",
                "project_id": PROJECT,
                "client_email": self.email,
                "private_key_id": "key-one",
                "private_key": self.key.private_bytes(
                    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
                ).decode(),
                "token_uri": url + TOKEN_PATH,
            }
        )

    @property
    def public_key(self) -> str:
        public = self.key.public_key()
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        return public.public_bytes(serialization.Encoding.PEM, form).decode()


@contextmanager
def running_vertex(account: ServiceAccount, upstream_url: str) -> Iterator[CloudServer]:
    """Run the stand-in."""

    async def handle(request: web.Request, received: Received, upstream: Upstream) -> web.StreamResponse:
        if received.path == TOKEN_PATH:
            return _token(account, f"http://{request.headers['Host']}{TOKEN_PATH}", received)
        if request.headers.get("Authorization", "").removeprefix("Bearer ") not in account.tokens:
            return _error(401, "Request had invalid authentication credentials.")
        path = _PATH.fullmatch(received.path)
        if path is None:
            return _error(404, "Publisher Model was not found.")
        return await _predicted(request, upstream, unquote(path[1]), path[2], received.json())

    with running(handle, upstream_url) as server:
        yield server


async def _predicted(
    request: web.Request, upstream: Upstream, model: str, method: str, body: dict[str, Any]
) -> web.StreamResponse:
    if body.pop("anthropic_version", None) != _VERSION:
        return _error(400, "anthropic_version: Field required")
    if model == "count-tokens":
        return await _passed(await upstream.ask("/v1/messages/count_tokens", body), request)
    if "model" in body or (method == "streamRawPredict") is not (body.get("stream") is True):
        return _error(400, "model: Extra inputs are not permitted")
    return await _passed(await upstream.ask("/v1/messages", {**body, "model": model}), request)


async def _passed(answer: aiohttp.ClientResponse, request: web.Request) -> web.StreamResponse:
    if answer.status >= 400:
        return _error(_LIMITS.get(answer.status, answer.status), (await answer.json())["error"]["message"])
    return await passed(answer, request)


def _error(status: int, message: str) -> web.Response:
    error = {"code": status, "message": message, "status": _STATUSES.get(status, "UNKNOWN")}
    return web.json_response({"error": error}, status=status)


def _token(account: ServiceAccount, url: str, received: Received) -> web.Response:
    if account.down:
        return web.json_response({"error": "internal_failure"}, status=503)
    form = parse_qs(received.body.decode())
    if form.get("grant_type") != [_GRANT]:
        return _refused("unsupported_grant_type", "Invalid grant_type")
    try:
        # It checks the signature, the audience and the times.
        claims = jwt.decode(  # type: ignore[no-untyped-call]
            form["assertion"][0], certs={"key-one": account.public_key}, audience=url
        )
    except ValueError as error:
        return _refused("invalid_grant", f"Invalid JWT: {error}")
    if claims["iss"] != account.email or claims["scope"] != _SCOPE or claims["exp"] - claims["iat"] > 3600:
        return _refused("invalid_grant", "Invalid issuer, scope or lifetime")
    token = f"ya29.{secrets.token_hex(16)}"
    account.tokens.add(token)
    return web.json_response({"access_token": token, "expires_in": account.lifetime, "token_type": "Bearer"})


def _refused(kind: str, description: str) -> web.Response:
    return web.json_response({"error": kind, "error_description": description}, status=400)
