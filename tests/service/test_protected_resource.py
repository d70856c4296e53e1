"""What OAuth clients learn of an agent with issuers (RFC 9728), and the official MCP client, which follows it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import parse_qs

import httpx
import httpx2
import pytest
from joserfc.jwk import KeySet
from mcp import Client
from mcp.client.auth import TokenStorage
from mcp.client.auth.extensions.client_credentials import ClientCredentialsOAuthProvider
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import OAuthClientInformationFull, OAuthToken

from support.agent import Service, StartService
from support.eventually import eventually
from support.http_server import QuietHandler, serving_http
from support.issuer import Issuer
from support.mcp_agent import said

PATH = "/.well-known/oauth-protected-resource"
KEY = "client-key-one-0123456789"


class Memory(TokenStorage):
    """Keeps the token of a client."""

    tokens: OAuthToken | None = None

    async def get_tokens(self) -> OAuthToken | None:
        return self.tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self.tokens = tokens

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return None

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        raise AssertionError("the client is registered already")


@contextmanager
def running_authorization_server() -> Iterator[tuple[Issuer, list[dict[str, list[str]]]]]:
    """Run an authorization server for clients with a secret; yield it with the requests for tokens that it received."""
    asked: list[dict[str, list[str]]] = []

    class Handler(QuietHandler, BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            metadata = {"issuer": issuer.url, "jwks_uri": f"{issuer.url}/keys", "token_endpoint": f"{issuer.url}/token"}
            metadata["authorization_endpoint"] = f"{issuer.url}/authorize"
            document = {**metadata, "response_types_supported": ["code"]}
            found = KeySet([*issuer.keys]).as_dict(private=False) if self.path == "/keys" else document
            self.send(200, json.dumps(found).encode())

        def do_POST(self) -> None:
            asked.append(parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode()))
            scope = " ".join(asked[-1].get("scope", []))
            token = issuer.token(aud=asked[-1]["resource"][0], scope=scope)
            self.send(200, json.dumps({"access_token": token, "token_type": "Bearer", "expires_in": 300}).encode())

    with serving_http(Handler) as port:
        issuer = Issuer(Path(), port)
        yield issuer, asked


async def test_the_official_mcp_client_finds_the_issuer_and_gets_a_token(
    start_service: StartService, tmp_path: Path
) -> None:
    with running_authorization_server() as (issuer, asked):
        file = issuer.file(tmp_path / "jwt.json", requiredScopes=["agent.use"])
        service = start_service(MODEL_PROVIDER="echo", API_MCP="true", JWT_FILE=str(file))
        url = f"{service.url}/mcp"
        # The audience of the tokens is the address of the MCP server, which clients ask for (RFC 8707).
        issuer.file(file, requiredScopes=["agent.use"], audiences=[url])
        auth = ClientCredentialsOAuthProvider(url, Memory(), "web", "secret-of-web", issuer=issuer.url)
        async with (
            httpx2.AsyncClient(auth=auth, timeout=60, trust_env=False) as http,
            Client(streamable_http_client(url, http_client=http)) as client,
        ):
            assert "hello" in said(await client.call_tool("ask", {"message": "hello"}))
        assert [(each["resource"], each["scope"]) for each in asked] == [([url], ["agent.use"])]


def test_the_description_names_the_issuers_and_the_challenges_name_it(
    start_service: StartService, tmp_path: Path
) -> None:
    with running_authorization_server() as (issuer, _):
        file = issuer.file(tmp_path / "jwt.json", requiredScopes=["b", "a"])
        service = start_service(
            MODEL_PROVIDER="echo", API_MCP="true", JWT_FILE=str(file), AGENT_NAME="clerk", API_KEYS=f"web: {KEY}"
        )
        for path in ("", "/mcp"):
            found = service.get(f"{PATH}{path}")
            assert found.json() == {
                "resource": f"{service.url}{path}",
                "authorization_servers": [issuer.url],
                "bearer_methods_supported": ["header"],
                "resource_name": "clerk",
                "scopes_supported": ["a", "b"],
            }
            assert found.headers["Vary"] == "Host, X-Forwarded-Proto"
        foreign, narrow = issuer.token(aud="other"), issuer.token(scope="a")
        eventually(lambda: _answer(service, "/chat", foreign).status_code != 503, "the keys of the issuer are known")
        for path, described in (("/chat", PATH), ("/mcp", f"{PATH}/mcp"), ("/v1/messages", PATH)):
            for token, status in ((None, 401), (foreign, 401), (narrow, 403)):
                answer = _answer(service, path, token)
                assert answer.status_code == status
                challenge = answer.headers["WWW-Authenticate"]
                assert challenge.startswith('Bearer realm="agent", ')
                assert challenge.endswith(f', resource_metadata="{service.url}{described}"')
        assert 'error="insufficient_scope"' in challenge


def _answer(service: Service, path: str, token: str | None) -> httpx.Response:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    return httpx.post(f"{service.url}{path}", json={}, headers=headers, timeout=60)


@pytest.mark.parametrize(("proxies", "scheme"), [("127.0.0.1/32", "https"), ("192.0.2.1/32", "http")])
def test_behind_a_trusted_proxy_the_description_has_the_address_of_the_proxy(
    proxies: str, scheme: str, start_service: StartService, tmp_path: Path
) -> None:
    with running_authorization_server() as (issuer, _):
        file = issuer.file(tmp_path / "jwt.json")
        service = start_service(MODEL_PROVIDER="echo", JWT_FILE=str(file), TRUSTED_PROXIES=proxies)
        sent = {"Host": "agent.example", "X-Forwarded-Proto": "https", "X-Forwarded-For": "192.0.2.9"}
        found = httpx.get(f"{service.url}{PATH}", headers=sent, timeout=60).json()
        assert found["resource"] == f"{scheme}://agent.example"
        assert "scopes_supported" not in found
        refused = httpx.get(f"{service.url}/usage", headers=sent, timeout=60).headers["WWW-Authenticate"]
        assert f'resource_metadata="{scheme}://agent.example{PATH}"' in refused
        # There is no MCP server to describe.
        assert service.get(f"{PATH}/mcp").status_code == 404


@pytest.mark.parametrize("settings", [{}, {"API_KEYS": f"web: {KEY}"}])
def test_an_agent_without_issuers_has_no_description(start_service: StartService, settings: dict[str, str]) -> None:
    service = start_service(MODEL_PROVIDER="echo", **settings)
    assert service.get(PATH).status_code == 404
    assert "resource_metadata" not in service.get("/usage").headers.get("WWW-Authenticate", "")
