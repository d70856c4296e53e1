"""Stand-ins for the services that exchange a service-account token for a credential.

Each checks what the real one checks: the signature by the keys of the cluster's issuer, the audience, the subject and
the times. Their answers are those in the references of AWS STS (AssumeRoleWithWebIdentity), EKS Pod Identity, Google's
Security Token Service and IAM Credentials, Microsoft Entra ID, and of the Anthropic SDK for its own.
"""

import asyncio
import json
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from aiohttp import web
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet, RSAKey

from support.clouds.server import CloudServer, Received, Upstream, running

SUBJECT = "system:serviceaccount:prod:support"
ISSUER = "https://oidc.cluster.example"
ROLE = "arn:aws:iam::123456789012:role/support"
POOL = "projects/123456/locations/global/workloadIdentityPools/pool/providers/cluster"
ACCOUNT = "support@project-one.iam.gserviceaccount.com"
TENANT, CLIENT = "0b1f0851-61c1-4f6c-a8e5-000000000001", "0b1f0851-61c1-4f6c-a8e5-000000000002"
RULE, ORGANIZATION = "fdrl_01", "0b1f0851-61c1-4f6c-a8e5-000000000003"

AUDIENCES = {
    "anthropic": "https://api.anthropic.com",
    "bedrock": "sts.amazonaws.com",
    "eks": "pods.eks.amazonaws.com",
    "vertex": f"https://iam.googleapis.com/{POOL}",
    "foundry": "api://AzureADTokenExchange",
}

# Longer than the service waits.
_SILENT_SECONDS = 6.0

_JWT_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
_ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


@dataclass
class Cluster:
    """An issuer of service-account tokens, as an API server is one."""

    issuer: str = ISSUER
    key: RSAKey = field(default_factory=lambda: RSAKey.generate_key(2048, {"kid": "cluster", "use": "sig"}))

    def token(self, audience: str, *, subject: str = SUBJECT, lifetime: int = 3600, age: int = 0) -> str:
        """Return a token that was issued `age` seconds ago."""
        issued = int(time.time()) - age
        claims = {"iss": self.issuer, "sub": subject, "aud": [audience], "iat": issued, "exp": issued + lifetime}
        return jwt.encode({"alg": "RS256", "kid": self.key.kid}, {**claims, "nbf": issued}, self.key)

    @property
    def keys(self) -> KeySet:
        return KeySet([self.key])


@dataclass
class TokenService:
    """What a stand-in trusts, and what is the matter with it.

    `clock` is by how many seconds its clock is ahead, `silent` whether it does not answer, `garbled` the body of its
    answers in place of its own.
    """

    audience: str
    keys: KeySet
    issuer: str = ISSUER
    subject: str = SUBJECT
    lifetime: float = 3600
    down: bool = False
    silent: bool = False
    garbled: bytes | None = None
    clock: float = 0.0
    trusted: bool = True
    issued: set[str] = field(default_factory=set)
    on_issue: Callable[[str], None] = lambda _: None

    def fault(self, token: str) -> str | None:
        """Return why a service-account token is refused, in one word; None if it is accepted."""
        now = time.time() + self.clock
        try:
            claims = jwt.decode(token, self.keys, algorithms=["RS256", "ES256"]).claims
        except (JoseError, ValueError):
            return "signature"
        if claims["iss"] != self.issuer:
            return "issuer"
        if claims["exp"] <= now or claims["nbf"] > now:
            return "time"
        if self.audience not in claims["aud"]:
            return "audience"
        return None if self.trusted and claims["sub"] == self.subject else "subject"

    def issue(self) -> str:
        """Return a new credential."""
        value = f"issued-{secrets.token_hex(16)}"
        self.issued.add(value)
        self.on_issue(value)
        return value

    def until(self) -> float:
        """Return the time at which a new credential ends, by this service's clock."""
        return time.time() + self.clock + self.lifetime


@contextmanager
def running_token_service(kind: str, service: TokenService, upstream_url: str) -> Iterator[CloudServer]:
    """Run the stand-in of one kind, which is a key of AUDIENCES."""
    answer = {"anthropic": _anthropic, "bedrock": _sts, "eks": _eks, "vertex": _google, "foundry": _entra}[kind]

    async def handle(request: web.Request, received: Received, _: Upstream) -> web.StreamResponse:
        if service.silent:
            await asyncio.sleep(_SILENT_SECONDS)
        if service.down:
            response = web.Response(status=503, text="Service Unavailable")
        elif service.garbled is not None:
            response = web.Response(body=service.garbled, content_type="application/json")
        else:
            response = answer(service, request, received)
        response.headers["Date"] = formatdate(time.time() + service.clock, usegmt=True)
        return response

    with running(handle, upstream_url) as server:
        yield server


def _anthropic(service: TokenService, request: web.Request, received: Received) -> web.Response:
    body = received.json()
    betas = request.headers.get("anthropic-beta", "")
    if request.path != "/v1/oauth/token" or body["grant_type"] != _JWT_GRANT or "oidc-federation-" not in betas:
        return _oauth(400, "invalid_request", "unsupported request")
    if (body["federation_rule_id"], body["organization_id"]) != (RULE, ORGANIZATION):
        return _oauth(400, "invalid_grant", "unknown federation rule")
    fault = service.fault(body["assertion"])
    if fault is not None:
        words = {"audience": "audience is not the rule's", "time": "token is expired", "subject": "no rule matches sub"}
        return _oauth(401, "invalid_grant", words.get(fault, "no issuer has this key"), echo=body["assertion"])
    return web.json_response(
        {"access_token": service.issue(), "token_type": "Bearer", "expires_in": int(service.lifetime)}
    )


def _oauth(status: int, error: str, description: str, **more: str) -> web.Response:
    return web.json_response({"error": error, "error_description": description, **more}, status=status)


_STS_FAULTS = {
    "audience": (400, "InvalidIdentityToken", "Incorrect token audience"),
    "issuer": (400, "InvalidIdentityToken", f"No OpenIDConnect provider found in your account for {ISSUER}"),
    "signature": (400, "InvalidIdentityToken", "Couldn't retrieve verification key from your identity provider"),
    "time": (400, "ExpiredTokenException", "Token expired: current date/time must be before the expiration date/time"),
    "subject": (403, "AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity"),
}
_NAMESPACE = "https://sts.amazonaws.com/doc/2011-06-15/"


def _sts(service: TokenService, request: web.Request, received: Received) -> web.Response:
    form = {name: values[0] for name, values in parse_qs(received.body.decode()).items()}
    fault = service.fault(form.get("WebIdentityToken", ""))
    status, code, message = _STS_FAULTS.get(fault or "", (200, "", ""))
    if form.get("Action") != "AssumeRoleWithWebIdentity" or form.get("Version") != "2011-06-15":
        status, code, message = 400, "InvalidAction", "Could not find operation"
    elif form.get("RoleArn") != ROLE or not form.get("RoleSessionName"):
        status, code, message = _STS_FAULTS["subject"]
    if status != 200:
        error = f"<Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>"
        return _xml(f'<ErrorResponse xmlns="{_NAMESPACE}">{error}</ErrorResponse>', status)
    parts = _keys(service, "SessionToken")
    written = "".join(f"<{name}>{value}</{name}>" for name, value in parts.items())
    name = "AssumeRoleWithWebIdentity"
    result = f"<{name}Result><Credentials>{written}</Credentials></{name}Result>"
    return _xml(f'<{name}Response xmlns="{_NAMESPACE}">{result}</{name}Response>', 200)


def _xml(text: str, status: int) -> web.Response:
    return web.Response(text=text, status=status, content_type="text/xml")


def _keys(service: TokenService, token: str) -> dict[str, str]:
    value = service.issue()
    ends = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(service.until()))
    return {"AccessKeyId": f"ASIA{value}", "SecretAccessKey": f"secret-{value}", token: value, "Expiration": ends}


def _eks(service: TokenService, request: web.Request, received: Received) -> web.Response:
    fault = service.fault(request.headers.get("Authorization", ""))
    if request.path != "/v1/credentials" or fault is not None:
        words = {"audience": "audience", "time": "ExpiredTokenException", "subject": "ResourceNotFoundException"}
        return web.Response(status=400, text=words.get(fault or "", "InvalidTokenException"))
    return web.json_response(_keys(service, "Token"))


_GOOGLE_FAULTS = {
    "audience": "The audience in ID Token [x] does not match the expected audience.",
    "issuer": "The issuer in ID Token x does not match the expected ones.",
    "signature": "Error connecting to the given credential's issuer.",
    "time": "ID Token issued at 1 is stale to sign-in.",
}


def _google(service: TokenService, request: web.Request, received: Received) -> web.Response:
    if request.path.endswith(":generateAccessToken"):
        return _impersonated(service, request, received)
    form = {name: values[0] for name, values in parse_qs(received.body.decode()).items()}
    if request.path != "/v1/token" or form["grant_type"] != _EXCHANGE:
        return _oauth(400, "invalid_request", "unsupported request")
    if form["audience"] != f"//iam.googleapis.com/{POOL}":
        return _oauth(400, "invalid_request", "Invalid value for audience")
    fault = service.fault(form["subject_token"])
    if fault == "subject":
        return _oauth(403, "unauthorized_client", "The given credential is rejected by the attribute condition.")
    if fault is not None:
        return _oauth(400, "invalid_grant", _GOOGLE_FAULTS[fault])
    return web.json_response(
        {"access_token": service.issue(), "token_type": "Bearer", "expires_in": int(service.lifetime)}
    )


def _impersonated(service: TokenService, request: web.Request, received: Received) -> web.Response:
    used = request.headers.get("Authorization", "").removeprefix("Bearer ")
    if used not in service.issued or request.path != f"/v1/projects/-/serviceAccounts/{ACCOUNT}:generateAccessToken":
        error = {"code": 403, "message": "Permission 'iam.serviceAccounts.getAccessToken' denied", "status": "DENIED"}
        return web.json_response({"error": error}, status=403)
    # The pool's own token has no access to the model.
    service.issued.discard(used)
    ends = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(service.until()))
    return web.json_response({"accessToken": service.issue(), "expireTime": ends})


_ENTRA_FAULTS = {
    "audience": "AADSTS700212: No matching federated identity record found for presented assertion audience",
    "issuer": "AADSTS700211: No matching federated identity record found for presented assertion issuer",
    "signature": "AADSTS50013: Assertion failed signature validation",
    "time": "AADSTS700024: Client assertion is not within its valid time range",
    "subject": "AADSTS700213: No matching federated identity record found for presented assertion subject",
}


def _entra(service: TokenService, request: web.Request, received: Received) -> web.Response:
    form = {name: values[0] for name, values in parse_qs(received.body.decode()).items()}
    if request.path != f"/{TENANT}/oauth2/v2.0/token" or form["client_id"] != CLIENT:
        return _oauth(400, "unauthorized_client", "AADSTS700016: Application was not found in the directory")
    asked = form["grant_type"], form["client_assertion_type"], form["scope"]
    if asked != ("client_credentials", _ASSERTION, "https://ai.azure.com/.default"):
        return _oauth(400, "invalid_request", "AADSTS900144: The request body must contain the parameter")
    fault = service.fault(form["client_assertion"])
    if fault is not None:
        return _oauth(401, "invalid_client", _ENTRA_FAULTS[fault])
    return web.json_response(
        {"access_token": service.issue(), "token_type": "Bearer", "expires_in": int(service.lifetime)}
    )


def write_token(file: Path, token: str) -> Path:
    """Replace the file at once, as the kubelet does."""
    new = file.with_suffix(".new")
    new.write_text(token, encoding="utf-8")
    new.rename(file)
    return file


def body(found: Any) -> bytes:
    """Return an answer in JSON."""
    return json.dumps(found).encode()
