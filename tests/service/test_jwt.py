"""Clients with tokens of an issuer: which are accepted, and what a client of a refused one is answered."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from joserfc.jwk import ECKey, OKPKey

from support.agent import Service, StartService, running_service
from support.eventually import eventually
from support.issuer import AUDIENCE, Issuer, rsa_key, running_issuer
from support.redis_server import RedisServer

KEY = "client-key-one-0123456789"


def chat(service: Service, token: str, *, path: str = "/chat", **body: object) -> httpx.Response:
    headers = {"Authorization": f"Bearer {token}"}
    return httpx.post(f"{service.url}{path}", json={"message": "hello", **body}, headers=headers, timeout=60)


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Issuer]:
    with running_issuer(tmp_path_factory.mktemp("issuers") / "one") as running:
        yield running


@pytest.fixture(scope="module")
def service(issuer: Issuer, redis_process: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("jwt")
    file = issuer.file(folder / "jwt.json", tenantClaim="tenant", requiredScopes=["agent.use"])
    with running_service(
        folder,
        MODEL_PROVIDER="echo",
        API_KEYS=f"web: {KEY}",
        JWT_FILE=str(file),
        RATE_LIMIT_REQUESTS="0",
        REDIS_URL=redis_process.url,
        LOG_LEVEL="DEBUG",
    ) as running:
        yield running


@pytest.fixture
def start_agent(start_service: StartService) -> StartService:
    """Start an agent without a limit of requests: the tests repeat theirs until the agent has the issuer's keys."""
    return lambda **settings: start_service(MODEL_PROVIDER="echo", RATE_LIMIT_REQUESTS="0", **settings)


def good(issuer: Issuer, **claims: Any) -> str:
    return issuer.token(**{"tenant": "acme", "scope": "openid agent.use", **claims})


def test_a_client_with_a_token_is_known_by_its_claims(service: Service, issuer: Issuer) -> None:
    token = good(issuer)
    answers = [chat(service, token), chat(service, token), chat(service, KEY)]
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    lines = [json.loads(line) for line in service.log().splitlines()]
    clients = [line["client"] for line in lines if line.get("route") == "/chat" and line["status"] == 200]
    assert clients[-3:] == ["acme/alice", "acme/alice", "web"]
    assert service.metric('agent_client_requests_total{client="jwt"}') >= 2
    assert service.metric(f'agent_jwt_issuer_up{{issuer="{issuer.url}"}}') == 1
    assert not any(part in service.log() for part in token.split("."))


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": [AUDIENCE, "other"]},
        {"scope": None, "scp": ["agent.use"]},
        {"scope": None, "scp": "agent.use"},
        {"sub": 4711},
        {"exp": int(time.time()) + 10**6},
    ],
)
def test_claims_may_have_each_form_that_issuers_use(service: Service, issuer: Issuer, claims: dict[str, Any]) -> None:
    assert chat(service, good(issuer, **claims)).status_code == 200


@pytest.mark.parametrize(
    ("claims", "reason", "words"),
    [
        ({"aud": "https://other.example"}, "audience", "another audience"),
        ({"aud": None}, "claims", "no claim aud"),
        ({"exp": int(time.time()) - 300}, "expired", "has expired"),
        ({"exp": None}, "claims", "no claim exp"),
        ({"nbf": int(time.time()) + 10**6}, "not_yet_valid", "not valid yet"),
        ({"iss": "https://other.example"}, "issuer", "does not know"),
        ({"iss": None}, "issuer", "no issuer"),
        ({"tenant": None}, "claims", "no claim tenant"),
        ({"sub": "a\nb"}, "claims", "no claim sub"),
        ({"sub": "x" * 201}, "claims", "no claim sub"),
        ({"sub": ["alice"]}, "claims", "no claim sub"),
    ],
)
def test_a_token_with_another_claim_is_refused_with_the_reason(
    service: Service, issuer: Issuer, claims: dict[str, Any], reason: str, words: str
) -> None:
    counted = service.metric(f'agent_auth_refused_total{{reason="{reason}"}}')
    answer = chat(service, good(issuer, **claims))
    assert answer.status_code == 401
    challenge = answer.headers["WWW-Authenticate"]
    assert challenge.startswith('Bearer realm="agent", error="invalid_token", error_description="')
    assert words in challenge
    assert words in answer.json()["detail"]
    assert service.metric(f'agent_auth_refused_total{{reason="{reason}"}}') == counted + 1


def test_a_token_without_a_required_scope_is_forbidden(service: Service, issuer: Issuer) -> None:
    answer = chat(service, good(issuer, scope="openid agent.use.more"))
    assert answer.status_code == 403
    assert 'error="insufficient_scope"' in answer.headers["WWW-Authenticate"]
    assert 'scope="agent.use"' in answer.headers["WWW-Authenticate"]


def test_no_credential_gets_a_challenge_without_an_error(service: Service) -> None:
    answer = httpx.post(f"{service.url}/chat", json={"message": "hello"})
    described = f"{service.url}/.well-known/oauth-protected-resource"
    challenge = f'Bearer realm="agent", resource_metadata="{described}"'
    assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, challenge)
    assert "Bearer <token>" in answer.json()["detail"]


def unsigned(header: dict[str, Any], claims: dict[str, Any], secret: bytes | None = None) -> str:
    """Return a token with any header: without a signature, or with that of HMAC."""
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in (header, claims)]
    signature = hmac.digest(secret, b".".join(parts), hashlib.sha256) if secret is not None else b""
    return b".".join([*parts, base64.urlsafe_b64encode(signature).rstrip(b"=")]).decode()


def test_a_token_without_a_signature_by_a_key_of_the_issuer_is_refused(service: Service, issuer: Issuer) -> None:
    now = int(time.time())
    claims = {
        "iss": issuer.url,
        "aud": AUDIENCE,
        "sub": "eve",
        "tenant": "acme",
        "scope": "agent.use",
        "exp": now + 300,
    }
    public = issuer.keys[0].as_pem(private=False)
    foreign = rsa_key("one")
    tokens = {
        "none": unsigned({"alg": "none"}, claims),
        "none of another case": unsigned({"alg": "nOnE", "kid": "one"}, claims),
        "HMAC with the public key": unsigned({"alg": "HS256", "kid": "one"}, claims, public),
        "HMAC with an empty key": unsigned({"alg": "HS256", "kid": "one"}, claims, b""),
        "RS256 without a signature": unsigned({"alg": "RS256", "kid": "one"}, claims),
        "another key of the same name": good(issuer, key=foreign),
        "its own key in the header": good(issuer, key=foreign, header={"jwk": foreign.as_dict(private=False)}),
        "cut": good(issuer)[:-8],
        "a changed claim": ".".join(
            [good(issuer).split(".")[0], *good(issuer, sub="eve").split(".")[1:2], good(issuer).split(".")[2]]
        ),
        "three words": "eyJ.eyJ.eyJ",
    }
    statuses = {name: chat(service, token).status_code for name, token in tokens.items()}
    assert statuses == dict.fromkeys(tokens, 401)
    assert "Traceback" not in service.log()
    assert chat(service, good(issuer)).status_code == 200


def test_conversations_and_tasks_belong_to_the_client_in_its_tenant(service: Service, issuer: Issuer) -> None:
    started = chat(service, good(issuer)).json()["conversation_id"]
    task = chat(service, good(issuer), path="/tasks").json()["task_id"]

    def sees(token: str) -> tuple[bool, bool]:
        goes_on = chat(service, token, conversation_id=started)
        found = httpx.get(f"{service.url}/tasks/{task}", headers={"Authorization": f"Bearer {token}"}, timeout=60)
        return goes_on.json()["conversation_id"] == started, found.status_code == 200

    assert sees(good(issuer, exp=int(time.time()) + 400)) == (True, True)
    for other in (good(issuer, sub="bob"), good(issuer, tenant="other"), KEY):
        assert sees(other) == (False, False)


@pytest.mark.parametrize(
    ("path", "body", "form"),
    [
        ("/v1/chat/completions", {"model": "agent", "messages": [{"role": "user", "content": "hi"}]}, "error"),
        ("/v1/messages", {"model": "agent", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}, "type"),
        ("/a2a", {"jsonrpc": "2.0", "id": 1, "method": "GetTask", "params": {"id": "x"}}, "jsonrpc"),
    ],
)
def test_each_protocol_has_its_own_form_of_the_refusals(
    service: Service, issuer: Issuer, path: str, body: dict[str, Any], form: str
) -> None:
    for token, status in ((good(issuer, aud="other"), 401), (good(issuer, scope="openid"), 403)):
        headers = {"Authorization": f"Bearer {token}"}
        answer = httpx.post(f"{service.url}{path}", json=body, headers=headers, timeout=60)
        assert answer.status_code == status
        assert answer.headers["WWW-Authenticate"].startswith("Bearer ")
        assert form in answer.json()
    allowed = httpx.post(
        f"{service.url}{path}", json=body, headers={"Authorization": f"Bearer {good(issuer)}"}, timeout=60
    )
    assert allowed.status_code == 200


def test_a_new_key_is_found_at_once_and_an_old_one_ends(start_agent: StartService, tmp_path: Path) -> None:
    with running_issuer(tmp_path / "issuer") as issuer:
        service = start_agent(JWT_FILE=str(issuer.file(tmp_path / "jwt.json")))
        old = issuer.token()
        eventually(lambda: chat(service, old).status_code == 200, "the keys are fetched")
        # The service fetches for an unknown key every ten seconds at most.
        issuer.publish(issuer.keys[0], ECKey.generate_key("P-256", {"kid": "two", "alg": "ES256"}))
        eventually(lambda: chat(service, issuer.token()).status_code == 200, "the new key is accepted", seconds=60)
        assert chat(service, old).status_code == 200
        issuer.publish(OKPKey.generate_key("Ed25519", {"kid": "three", "alg": "EdDSA"}))
        eventually(lambda: chat(service, issuer.token()).status_code == 200, "the third key is accepted", seconds=60)
        assert chat(service, old).status_code == 401


def test_tokens_with_unknown_keys_cause_few_fetches(start_agent: StartService, tmp_path: Path) -> None:
    with running_issuer(tmp_path / "issuer") as issuer:
        service = start_agent(JWT_FILE=str(issuer.file(tmp_path / "jwt.json")))
        eventually(lambda: chat(service, issuer.token()).status_code == 200, "the keys are fetched")
        before, began = issuer.fetches(), time.monotonic()
        foreign = rsa_key("unknown")
        answers = [chat(service, issuer.token(key=foreign)).status_code for _ in range(20)]
        assert answers == [401] * 20
        assert issuer.fetches() - before <= 1 + (time.monotonic() - began) / 10


def test_the_keys_stay_in_use_while_the_issuer_is_down(start_agent: StartService, tmp_path: Path) -> None:
    with running_issuer(tmp_path / "issuer") as issuer:
        service = start_agent(JWT_FILE=str(issuer.file(tmp_path / "jwt.json")), API_KEYS=f"web: {KEY}")
        eventually(lambda: chat(service, issuer.token()).status_code == 200, "the keys are fetched")
        issuer.stop()
        assert chat(service, issuer.token(sub="bob")).status_code == 200
        # A key that the issuer cannot have announced.
        assert chat(service, issuer.token(key=rsa_key("new"))).status_code == 401
        assert chat(service, issuer.token(sub="carol")).status_code == 200
        issuer.publish(rsa_key("new"))
        issuer.start()
        eventually(lambda: chat(service, issuer.token()).status_code == 200, "the new key is accepted", seconds=90)


def test_a_token_is_unverifiable_until_the_issuer_was_reached_once(start_agent: StartService, tmp_path: Path) -> None:
    with running_issuer(tmp_path / "issuer") as issuer:
        issuer.stop()
        service = start_agent(JWT_FILE=str(issuer.file(tmp_path / "jwt.json")), API_KEYS=f"web: {KEY}")
        answer = chat(service, issuer.token())
        assert answer.status_code == 503
        assert int(answer.headers["Retry-After"]) > 0
        assert chat(service, KEY).status_code == 200
        assert service.log().count("Keys of an issuer could not be fetched") == 1
        issuer.start()
        eventually(lambda: chat(service, issuer.token()).status_code == 200, "the keys are fetched", seconds=90)


@pytest.mark.parametrize(("skew", "status"), [(60, 401), (360, 200)])
def test_clocks_may_differ_by_as_much_as_is_configured(
    start_agent: StartService, tmp_path: Path, skew: int, status: int
) -> None:
    with running_issuer(tmp_path / "issuer") as issuer:
        file = issuer.file(tmp_path / "jwt.json", clockSkewSeconds=skew)
        service = start_agent(JWT_FILE=str(file))
        now = int(time.time())
        # The issuer's clock is five minutes ahead, then five minutes behind.
        ahead, behind = (issuer.token(iat=now + by, nbf=now + by, exp=now + by + 240) for by in (300, -300))
        eventually(lambda: chat(service, issuer.token()).status_code == 200, "the keys are fetched")
        assert [chat(service, token).status_code for token in (ahead, behind)] == [status, status]


def test_a_changed_file_takes_effect_and_a_faulty_one_does_not(start_agent: StartService, tmp_path: Path) -> None:
    with running_issuer(tmp_path / "issuer") as issuer:
        file = issuer.file(tmp_path / "jwt.json")
        service = start_agent(JWT_FILE=str(file))
        eventually(lambda: chat(service, issuer.token()).status_code == 200, "the keys are fetched")
        (tmp_path / "new").write_text("{}", encoding="utf-8")
        (tmp_path / "new").rename(file)
        assert chat(service, issuer.token()).status_code == 200
        issuer.file(file, audiences=["other"])
        eventually(lambda: chat(service, issuer.token(aud="other")).status_code == 200, "the file is applied")
        assert chat(service, issuer.token()).status_code == 401
