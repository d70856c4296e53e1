"""The exchange of a service-account token: what is read from its file, sent to token services and said of refusals."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from google.auth import identity_pool
from google.auth.transport import Request, Response

from agent_service.agent.errors import CredentialsRefusedError
from agent_service.agent.identity import failures
from agent_service.agent.identity.requests import Answer
from agent_service.agent.identity.service_account_token import ServiceAccountToken, read_token
from agent_service.agent.vertex import federation
from agent_service.agent.vertex.federation import GoogleIdentity
from agent_service.config.loading import SettingsError, load
from support.clouds.token_services import ACCOUNT, POOL, SUBJECT, Cluster

TOKEN = ServiceAccountToken("the.service-account.token", "issuer", SUBJECT, ("audience",), 2e9)


def test_a_token_is_read_with_what_it_says_about_itself(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(Cluster().token("sts.amazonaws.com") + "\n")

    token = read_token(file)
    assert (token.subject, token.audiences) == (SUBJECT, ("sts.amazonaws.com",))
    assert token.text not in repr(token)


@pytest.mark.parametrize(
    "content", [b"", b"no token", b"a.b.c", b"a.e30.c", b"\xff.\xff.\xff", b"a" * 20_000, b"a.bnVsbA.c"]
)
def test_a_file_without_a_token_is_reported_as_such(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "token"
    file.write_bytes(content)
    with pytest.raises(CredentialsRefusedError) as failed:
        read_token(file)

    assert failed.value.kind == "no_identity_token"


def test_a_missing_file_is_reported_as_such(tmp_path: Path) -> None:
    with pytest.raises(CredentialsRefusedError, match="IDENTITY_TOKEN_FILE") as failed:
        read_token(tmp_path / "token")

    assert failed.value.kind == "no_identity_token"


def test_a_token_that_the_kubelet_did_not_replace_is_reported_as_expired(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(Cluster().token("sts.amazonaws.com", age=3700))
    with pytest.raises(CredentialsRefusedError) as failed:
        read_token(file)

    assert failed.value.kind == "identity_token_expired"
    assert SUBJECT in (failed.value.upstream or "")


@pytest.mark.parametrize(
    ("skew", "kind"), [(0.0, "identity_token_expired"), (-300.0, "clock_off"), (300.0, "clock_off")]
)
def test_a_difference_of_clocks_explains_a_token_that_is_refused_for_its_time(skew: float, kind: str) -> None:
    words = (("expired", "identity_token_expired"),)

    assert failures.of_answer("Token expired", "AWS STS", words, skew_seconds=skew).kind == kind


def test_an_audience_that_is_refused_is_no_matter_of_clocks() -> None:
    words = (("audience", "audience_refused"),)

    assert failures.of_answer("Incorrect audience", "AWS STS", words, skew_seconds=300.0).kind == "audience_refused"


@pytest.mark.parametrize("account", [None, ACCOUNT])
async def test_the_requests_to_google_are_those_of_its_own_library(
    account: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "token"
    file.write_text(TOKEN.text)
    impersonation = f"https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/{account}:generateAccessToken"
    official = identity_pool.Credentials.from_info(  # type: ignore[no-untyped-call]
        {
            "type": "external_account",
            "audience": f"//iam.googleapis.com/{POOL}",
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
            "token_url": "https://sts.googleapis.com/v1/token",
            "credential_source": {"file": str(file)},
            **({} if account is None else {"service_account_impersonation_url": impersonation}),
        }
    ).with_scopes(["https://www.googleapis.com/auth/cloud-platform"])
    theirs = _Recording()
    official.refresh(theirs)

    ours: list[tuple[str, dict[str, Any]]] = []
    with _answering(ours, monkeypatch):
        await GoogleIdentity(POOL, account).exchange(TOKEN)

    assert [url for url, _ in ours] == [url for url, _ in theirs.sent]
    assert ours[0][1] == theirs.sent[0][1]
    if account is not None:
        assert ours[1][1]["scope"] == ["https://www.googleapis.com/auth/cloud-platform"]
        assert theirs.sent[1][1]["lifetime"] == ours[1][1]["lifetime"]


class _Recording(Request):
    """A transport of google-auth that answers as Google does."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, dict[str, Any]]] = []

    def __call__(
        self, url: Any, method: Any = "GET", body: Any = None, headers: Any = None, timeout: Any = None, **_: Any
    ) -> Response:
        text = body.decode() if isinstance(body, bytes) else body
        form = json.loads(text) if text.startswith("{") else {name: all_[0] for name, all_ in parse_qs(text).items()}
        # google-auth adds its own version to the exchange.
        form.pop("options", None)
        self.sent.append((url, form))
        return _Answered()


class _Answered(Response):
    status = 200
    headers: dict[str, str] = {}  # noqa: RUF012
    data = b'{"access_token": "a", "expires_in": 3600, "accessToken": "b", "expireTime": "2099-01-01T00:00:00Z"}'


@contextmanager
def _answering(sent: list[tuple[str, dict[str, Any]]], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Answer the requests of the service to Google in its place."""

    async def post(url: str, place: str, *, form: Any = None, json: Any = None, headers: Any = None) -> Answer:
        sent.append((url, dict(form or json)))
        return Answer(place, 200, _Answered.data, 0.0)

    monkeypatch.setattr(federation, "post", post)
    yield


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        ({"model_provider": "anthropic"}, "ANTHROPIC_FEDERATION_RULE_ID"),
        ({"model_provider": "bedrock", "bedrock_region": "eu-west-1"}, "AWS_ROLE_ARN"),
        ({"model_provider": "vertex", "vertex_project": "p", "vertex_region": "eu"}, "GOOGLE_IDENTITY_PROVIDER"),
        ({"model_provider": "foundry", "foundry_resource": "r", "azure_tenant_id": "t"}, "AZURE_CLIENT_ID"),
    ],
)
@pytest.mark.parametrize("runtime", [{}, {"runtime_url": "http://127.0.0.1:8080"}], ids=["built-in", "runtime"])
def test_what_the_exchange_lacks_is_named_at_the_start(
    given: dict[str, Any], missing: str, runtime: dict[str, Any]
) -> None:
    with pytest.raises(SettingsError, match=missing):
        load(identity_token_file="/var/token", **given, **runtime)
