"""Settings: their sources, and the messages for invalid ones."""

from pathlib import Path

import pytest
from anthropic.resources.messages import DEPRECATED_MODELS
from anthropic.types import model as model_ids

from agent_service.config.loading import SettingsError, load


def faults(**environment_variables: str) -> list[str]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment_variables.items():
            patch.setenv(name, value)
        with pytest.raises(SettingsError) as raised:
            load()
    return raised.value.faults


def test_the_default_model_is_one_that_the_sdk_lists_as_current() -> None:
    default = load(model_provider="echo").default_model
    assert default in str(model_ids.Model)
    assert default not in DEPRECATED_MODELS


def test_a_missing_key_is_a_fault_with_instructions() -> None:
    (fault,) = faults()
    assert fault.startswith("ANTHROPIC_API_KEY: ")
    assert "MODEL_PROVIDER=echo" in fault


def test_a_model_may_be_free_of_charge(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"BUDGET_COST": "10", "PRICE_INPUT": "0", "PRICE_OUTPUT": "0"}.items():
        monkeypatch.setenv(name, value)
    assert load(model_provider="echo").price_input == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("API_PORT", "65536"),
        ("PORT", "-1"),
        ("API_PORT", "tcp://10.0.0.1:80"),
        ("MAX_TOKENS", "many"),
        ("MAX_TOKENS", "0"),
        ("MODEL_PROVIDER", "oracle"),
        ("ENVIRONMENT", "moon"),
        ("DEBUG", "perhaps"),
        ("LOG_LEVEL", "loud"),
        ("LOG_FORMAT", "xml"),
        ("REQUEST_TIMEOUT_SECONDS", "0"),
        ("REQUEST_TIMEOUT_SECONDS", "nan"),
        ("REQUEST_TIMEOUT_SECONDS", "inf"),
        ("STREAM_HEARTBEAT_SECONDS", "-1"),
        ("ANTHROPIC_BASE_URL", "ftp://model.example"),
        ("ANTHROPIC_BASE_URL", "https://user:word@model.example"),
        ("CORS_ORIGINS", "console.example"),
        ("SECRETS_DIR", "no-such-folder"),
    ],
)
def test_an_invalid_value_is_one_fault_under_its_name(name: str, value: str) -> None:
    (fault,) = faults(**{"MODEL_PROVIDER": "echo", name: value})
    assert name in fault.split(":")[0]
    assert "\n" not in fault


@pytest.mark.parametrize(
    "name", ["ANTHROPIC_API_KEY", "DEFAULT_MODEL", "ANTHROPIC_BASE_URL", "REDIS_HOST", "REDIS_URL"]
)
@pytest.mark.parametrize("mark", ["'", '"'])
def test_quotes_in_a_value_are_a_fault(name: str, mark: str) -> None:
    (fault,) = [each for each in faults(**{name: f"{mark}value{mark}"}) if each.startswith(name)]
    assert "quotes" in fault


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_an_env_file_of_any_editor_is_read(tmp_path: Path, mark: str, end: str) -> None:
    lines = ("ANTHROPIC_API_KEY=sk-0123456789", "DEFAULT_MODEL=claude-x", "")
    (tmp_path / ".env").write_bytes((mark + end.join(lines)).encode())
    settings = load()
    assert settings.anthropic_api_key is not None
    assert settings.anthropic_api_key.get_secret_value() == "sk-0123456789"
    assert (settings.default_model, settings.secret_file("ANTHROPIC_API_KEY")) == ("claude-x", None)


def test_whitespace_around_the_secrets_folder_hides_no_secret(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "ANTHROPIC_API_KEY").write_text("from-folder\n")
    monkeypatch.setenv("SECRETS_DIR", f"{tmp_path}\n")
    settings = load()
    assert settings.anthropic_api_key is not None
    assert settings.secret_file("ANTHROPIC_API_KEY") == tmp_path / "ANTHROPIC_API_KEY"


def test_all_faults_are_reported_at_once() -> None:
    reported = faults(ANTHROPIC_API_KEY="k", MAX_TOKENS="many", LOG_LEVEL="loud", API_PORT="high")
    assert [fault.split(":")[0] for fault in reported] == ["API_PORT (or PORT)", "LOG_LEVEL", "MAX_TOKENS"]


@pytest.mark.parametrize("key", ["secret word", "secret\nword", "secret-wörd", "secret\x7fword"])
def test_a_key_that_is_not_a_valid_header_is_a_fault_that_does_not_show_it(key: str) -> None:
    (fault,) = [line for line in faults(ANTHROPIC_API_KEY=key) if line.startswith("ANTHROPIC_API_KEY")]
    assert "secret" not in fault


def test_a_password_in_the_base_url_is_not_shown() -> None:
    (fault,) = faults(MODEL_PROVIDER="echo", ANTHROPIC_BASE_URL="https://user:hunter2@model.example")
    assert "hunter2" not in fault


def test_the_environment_overrides_the_env_file_and_that_the_secrets_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / "secrets"
    folder.mkdir()
    for name in ("ANTHROPIC_API_KEY", "DEFAULT_MODEL", "SYSTEM_PROMPT"):
        (folder / name).write_text("from-folder\n")
    (tmp_path / ".env").write_text("DEFAULT_MODEL=from-file\nSYSTEM_PROMPT=from-file\nSOMEBODY_ELSES=1\n")
    monkeypatch.setenv("SECRETS_DIR", str(folder))
    monkeypatch.setenv("SYSTEM_PROMPT", "from-environment")
    settings = load()
    assert settings.anthropic_api_key is not None
    assert settings.anthropic_api_key.get_secret_value() == "from-folder"
    assert settings.secret_file("ANTHROPIC_API_KEY") == folder / "ANTHROPIC_API_KEY"
    assert (settings.default_model, settings.system_prompt) == ("from-file", "from-environment")


def test_a_key_in_the_environment_is_not_read_from_the_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "ANTHROPIC_API_KEY").write_text("from-folder")
    monkeypatch.setenv("SECRETS_DIR", str(tmp_path))
    monkeypatch.setenv("ANTHROPIC_API_KEY", "from-environment")
    assert load().secret_file("ANTHROPIC_API_KEY") is None


def test_an_empty_value_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL_PROVIDER", "echo")
    for name in ("API_PORT", "ANTHROPIC_BASE_URL", "ANTHROPIC_API_KEY", "SECRETS_DIR", "CORS_ORIGINS"):
        monkeypatch.setenv(name, "")
    settings = load()
    assert settings.api_port == 8000
    assert settings.anthropic_base_url is None
    assert settings.cors_origins == ()


def test_a_system_prompt_of_only_whitespace_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYSTEM_PROMPT", " \n ")
    assert load(model_provider="echo").system_prompt is None


@pytest.mark.parametrize("environment", ["development", "testing", "staging", "production"])
def test_docs_are_disabled_only_in_production(environment: str) -> None:
    assert load(model_provider="echo", environment=environment).is_production == (environment == "production")


def test_port_is_read_as_paas_hosts_set_it_and_api_port_overrides_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL_PROVIDER", "echo")
    monkeypatch.setenv("PORT", "9001")
    assert load().api_port == 9001
    monkeypatch.setenv("API_PORT", "9002")
    assert load().api_port == 9002
    assert load(API_PORT=9003).api_port == 9003


@pytest.mark.parametrize(
    "written", ["https://a.example,http://b.example:8080/", ' ["https://a.example", "http://b.example:8080"] ']
)
def test_origins_are_read_from_a_comma_separated_list_and_from_json(
    monkeypatch: pytest.MonkeyPatch, written: str
) -> None:
    monkeypatch.setenv("CORS_ORIGINS", written)
    assert load(model_provider="echo").cors_origins == ("https://a.example", "http://b.example:8080")


def test_the_settings_never_show_their_key_when_printed() -> None:
    assert "sk-secret" not in repr(load(anthropic_api_key="sk-secret"))
