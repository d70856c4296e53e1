"""The setting MODEL_FALLBACKS, and where the credentials of its entries come from."""

import json
from pathlib import Path
from typing import Any

import pytest

from agent_service.agent.claude.renewal import unobserved
from agent_service.agent.endpoints import Reports, make_endpoint
from agent_service.config.loading import SettingsError, load
from agent_service.config.settings import Settings

BEDROCK = {"provider": "bedrock", "bedrock": {"region": "eu-central-1"}}
UNREPORTED = Reports(lambda _: None, unobserved)
KEYS = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "of-the-key"}


@pytest.fixture(autouse=True)
def _folder_without_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-of-the-agent")


def loaded(fallbacks: object, **given: Any) -> Settings:
    return load(model_fallbacks=fallbacks if isinstance(fallbacks, str) else json.dumps(fallbacks), **given)


def faults(fallbacks: object, **given: Any) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        loaded(fallbacks, **given)
    return caught.value.faults


@pytest.mark.parametrize(
    ("fallbacks", "words"),
    [
        ("[", "must be a JSON list"),
        ({"provider": "bedrock"}, "list"),
        ([{}], "[0].provider: field required"),
        ([{"provider": "echo"}], "[0].provider"),
        ([{"provider": "bedrock"}], "provider bedrock and the block bedrock"),
        ([{**BEDROCK, "vertex": {"project": "one", "region": "global"}}], "provider bedrock and the block vertex"),
        ([{**BEDROCK, "baseUrl": "http://proxy"}], "baseUrl is for the provider anthropic"),
        ([{**BEDROCK, "more": 1}], "[0].more: is unknown"),
        ([BEDROCK, BEDROCK], "two entries are the same"),
        ([BEDROCK], "[0]: AWS_ACCESS_KEY_ID: is not set"),
        ([{**BEDROCK, "secretsDir": "../etc"}], "[0].secretsDir"),
        ([{**BEDROCK, "secretsDir": "fallback-1"}], "SECRETS_DIR, which is not set"),
        ([{"provider": "anthropic", "model": str(number)} for number in range(5)], "at most 4"),
    ],
)
def test_a_fault_names_the_entry_and_what_to_do(fallbacks: object, words: str) -> None:
    assert any(words in fault for fault in faults(fallbacks))
    assert all(fault.startswith("MODEL_FALLBACKS: ") for fault in faults(fallbacks))


def test_the_echo_has_no_fallbacks() -> None:
    (fault,) = faults([{"provider": "anthropic"}], model_provider="echo")
    assert "always answers" in fault


def test_a_budget_of_cost_needs_the_prices_of_other_models() -> None:
    prices = {"budget_cost": "1", "price_input": "1", "price_output": "1"}
    (fault,) = faults([{"provider": "anthropic", "model": "other"}], **prices)

    assert "[0]: requires prices" in fault
    assert loaded([{"provider": "anthropic"}], **prices).fallbacks
    own = {"provider": "anthropic", "model": "other", "prices": {"input": "1", "output": "2"}}
    assert loaded([own], **prices).fallbacks


def test_the_credentials_of_an_entry_may_be_those_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    settings = loaded([BEDROCK])
    (fallback,) = settings.fallbacks

    assert make_endpoint(settings.of_fallback(fallback), UNREPORTED).address.endswith("eu-central-1.amazonaws.com")


async def test_the_credentials_of_an_entry_may_be_files_of_its_own_that_change(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / "secrets" / "fallback-1"
    folder.mkdir(parents=True)
    key = folder / "ANTHROPIC_API_KEY"
    key.write_text("sk-of-the-fallback\n")
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    (tmp_path / "secrets" / "ANTHROPIC_API_KEY").write_text("sk-of-the-agent\n")
    monkeypatch.setenv("SECRETS_DIR", str(tmp_path / "secrets"))
    settings = loaded([{"provider": "anthropic", "model": "other", "secretsDir": "fallback-1"}])
    (fallback,) = settings.fallbacks
    endpoint = make_endpoint(settings.of_fallback(fallback), UNREPORTED)

    assert (await endpoint.credentials.current()).value == "sk-of-the-fallback"
    key.write_text("sk-another-of-the-fallback\n")
    assert (await endpoint.credentials.current()).value == "sk-another-of-the-fallback"
    own = make_endpoint(settings, UNREPORTED)
    assert (await own.credentials.current()).value == "sk-of-the-agent"


def test_an_entry_uses_the_workload_identity_of_the_agents_own_provider_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "identity-token").write_text("token")
    monkeypatch.setenv("IDENTITY_TOKEN_FILE", str(tmp_path / "identity-token"))
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/agent")
    given = {"model_provider": "bedrock", "bedrock_region": "eu-west-1"}
    settings = loaded([BEDROCK, {"provider": "anthropic"}], **given)

    assert [settings.of_fallback(each).has_identity for each in settings.fallbacks] == [True, False]
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    (fault,) = faults([{"provider": "anthropic"}], **given)
    assert fault.startswith("MODEL_FALLBACKS: [0]: ANTHROPIC_API_KEY: is not set")


def test_fallbacks_of_a_runtime_need_the_credentials_of_the_agents_own_provider(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)

    assert faults([BEDROCK], runtime_url="http://127.0.0.1:9000") == [
        "ANTHROPIC_API_KEY: is not set; with MODEL_FALLBACKS, MODEL_PROVIDER=anthropic needs it"
    ]


def test_an_entry_of_anthropic_is_at_the_address_of_the_agents_setting() -> None:
    settings = loaded([{"provider": "anthropic", "model": "other"}], anthropic_base_url="http://localhost:8080")
    (fallback,) = settings.fallbacks

    assert make_endpoint(settings.of_fallback(fallback), UNREPORTED).address == "http://localhost:8080"


def test_entries_of_one_provider_have_names_that_distinguish_them() -> None:
    entries = [{"provider": "anthropic", "model": "one"}, {"provider": "anthropic", "model": "two"}]
    assert [each.name for each in loaded(entries).fallbacks] == ["anthropic-2", "anthropic-3"]


def test_no_fault_contains_a_value() -> None:
    assert "sk-secret" not in "\n".join(faults([{**BEDROCK, "apiKey": "sk-secret"}]))
