"""Addresses and values as users write them: what is corrected, and what is rejected with a sentence."""

from pathlib import Path

import pytest

from agent_service.config.loading import SettingsError, load
from agent_service.config.settings import Settings
from agent_service.network.addresses import http_address, model_api_address, redis_address


@pytest.mark.parametrize(
    ("written", "address", "left_out"),
    [
        ("https://gw.example", "https://gw.example", ""),
        ("https://gw.example/", "https://gw.example", ""),
        ("https://gw.example//", "https://gw.example", ""),
        (" https://gw.example\r\n", "https://gw.example", ""),
        ("HTTPS://gw.example", "https://gw.example", ""),
        ("https://gw.example/v1", "https://gw.example", "/v1"),
        ("https://gw.example/v1/", "https://gw.example", "/v1"),
        ("https://gw.example/v1/messages", "https://gw.example", "/v1/messages"),
        ("https://gw.example/v1/messages/count_tokens", "https://gw.example", "/v1/messages/count_tokens"),
        ("https://gw.example/anthropic/v1", "https://gw.example/anthropic", "/v1"),
        ("https://gw.example/anthropic", "https://gw.example/anthropic", ""),
        ("https://gw.example/team-v1", "https://gw.example/team-v1", ""),
        ("http://[::1]:8080/v1", "http://[::1]:8080", "/v1"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080", ""),
        ("http://my_gateway.svc:80", "http://my_gateway.svc:80", ""),
        ("http://münchen.example", "http://münchen.example", ""),
    ],
)
def test_the_base_url_of_the_model_api_is_normalized(written: str, address: str, left_out: str) -> None:
    assert model_api_address(written) == (address, left_out)


@pytest.mark.parametrize(
    ("written", "word"),
    [
        ("gw.example", "begins with"),
        ("gw.example:8080/v1", "begins with"),
        ("//gw.example", "begins with"),
        ("ftp://gw.example", "begins with"),
        ("https:/gw.example", "begins with"),
        ('"https://gw.example"', "quotes"),
        ("'https://gw.example'", "quotes"),
        ("https://gw.example?x=1", "remove"),
        ("https://gw.example/v1?", "remove"),
        ("https://gw.example/#a", "remove"),
        ("https://user:hunter2@gw.example", "user name"),
        ("https://hunter2@gw.example", "user name"),
        ("https://gw.example\nevil", "white space"),
        ("https://gw.example\tevil", "white space"),
        ("https://gw .example", "white space"),
        ("https:\\\\gw.example", "white space"),
        ("https://gw\\example", "white space"),
        ("https://gw.example:99999", "port"),
        ("https://gw.example:0", "port"),
        ("https://gw.example:", "port"),
        ("https://gw.example:http", "port"),
        ("https://[::1", "must look like"),
        ("https://", "host"),
        ("https:///v1", "host"),
        ("https://a..b", "host"),
        ("https://.example", "host"),
        ("https://999.1.1.1", "host"),
        ("https://gw,example", "host"),
        (f"https://{'a' * 64}.example", "host"),
        ("https://gw.example\x00", "white space"),
    ],
)
def test_an_unusable_address_is_rejected_with_the_expected_form(written: str, word: str) -> None:
    with pytest.raises(ValueError, match=word) as raised:
        http_address(written)
    assert "hunter2" not in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "written",
    [
        "redis://redis",
        "redis://redis:6379/0",
        "redis://redis:6379/",
        "redis://:pass%23word@redis:6379/15\n",
        "redis://user:pa%2Fss@[::1]:6379/0",
        "rediss://redis.example:6380/0?ssl_cert_reqs=none",
        "rediss://redis.example:6380?ssl_check_hostname=false&ssl_min_version=771",
        "redis://redis/0?socket_timeout=5&client_name=a&health_check_interval=30",
        "redis://redis?db=3",
        "unix:///run/redis.sock",
        "unix:///run/redis.sock?db=2",
    ],
)
def test_a_redis_url_is_kept_as_written_except_for_whitespace(monkeypatch: pytest.MonkeyPatch, written: str) -> None:
    assert redis_address(written) == written.strip()
    assert set_all(monkeypatch, MODEL_PROVIDER="echo", REDIS_URL=written).redis_address == written.strip()


def set_all(monkeypatch: pytest.MonkeyPatch, **values: str) -> Settings:
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    return load()


@pytest.mark.parametrize("around", ["{}\n", "{}\r\n", " {} ", "\t{}\r"])
def test_whitespace_around_any_value_is_stripped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, around: str) -> None:
    values = {
        "MODEL_PROVIDER": "anthropic",
        "ANTHROPIC_API_KEY": "sk-0123456789",
        "ANTHROPIC_BASE_URL": "http://127.0.0.1:1",
        "DEFAULT_MODEL": "claude-x",
        "ENVIRONMENT": "production",
        "API_HOST": "127.0.0.1",
        "API_PORT": "8001",
        "MAX_TOKENS": "1000",
        "LOG_CONTENT": "true",
        "LOG_LEVEL": "info",
        "BUDGET_PERIOD": "day",
        "STATE_PREFIX": "one",
        "REDIS_HOST": "redis.example",
        "REDIS_PORT": "6380",
        "REDIS_PASSWORD": "pa55word",
        "CORS_ORIGINS": "https://a.example",
        "SECRETS_DIR": str(tmp_path),
        "REQUEST_TIMEOUT_SECONDS": "5",
    }
    plain = set_all(monkeypatch, **values)
    padded = set_all(monkeypatch, **{name: around.format(value) for name, value in values.items()})
    assert padded == plain
    assert padded.redis_address == "redis://:pa55word@redis.example:6380/0"


@pytest.mark.parametrize("name", sorted(name.upper() for name in Settings.model_fields))
def test_a_value_of_only_whitespace_counts_as_unset(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-0123456789")
    before = load()
    monkeypatch.setenv(name, " \n")
    if name == "ANTHROPIC_API_KEY":
        with pytest.raises(SettingsError, match="is not set"):
            load()
    else:
        assert load() == before


def faults_of_load() -> list[str]:
    try:
        load()
    except SettingsError as error:
        return error.faults
    return []


@pytest.mark.parametrize(
    "written",
    [
        "redis",
        "redis:6379",
        "http://redis",
        "redis://",
        "redis:///0",
        "redis://redis:0/0",
        "redis://redis:port/0",
        "redis://redis:99999/0",
        "redis://re dis/0",
        "redis://redis\n:6379/0",
        '"redis://redis/0"',
        "redis://redis/prod",
        "redis://redis/0/1",
        "redis://redis/-1",
        "redis://redis?db=x",
        "redis://redis?db=-1",
        "redis://redis?db=",
        "redis://redis?unknown=1",
        "redis://redis?decode_responses=1",
        "redis://redis?protocol=3",
        "redis://redis?max_connections=1",
        "redis://redis?socket_timeout=nan",
        "redis://redis?socket_timeout=never",
        "redis://redis?socket_timeout=0",
        "redis://redis?health_check_interval=1.5",
        "redis://redis?ssl_cert_reqs=none",
        "rediss://redis?ssl_cert_reqs=perhaps",
        "rediss://redis?ssl_ca_certs=/nowhere/ca.crt",
        "rediss://redis?ssl_min_version=TLSv1.2",
        "redis://:hunter2#a@redis/0",
        "redis://:hunter2/a@redis/0",
        "redis://:hunter2?a@redis/0",
        "redis://a..b/0",
        "redis://redis/0#1",
        "unix://",
        "sentinel://redis",
    ],
)
def test_an_address_that_redis_py_cannot_use_is_rejected_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, written: str
) -> None:
    with pytest.raises(SettingsError, match=r"^REDIS_URL: (must|has|is|names) ") as raised:
        set_all(monkeypatch, MODEL_PROVIDER="echo", REDIS_URL=written)
    assert "hunter2" not in str(raised.value)
    assert len(raised.value.faults) == 1


# Values that are invalid for most settings, and must cause no more than one line for any of them.
ODD = (
    "\x01",
    "a\nb",
    "many",
    "-1",
    "nan",
    "1e999",
    "{}",
    "[1",
    '"quoted"',
    "http://[",
    "é" * 300,
    "://",
    "%zz",
    "a..b",
)


@pytest.mark.parametrize("value", ODD)
@pytest.mark.parametrize("name", sorted(name.upper() for name in Settings.model_fields))
def test_an_odd_value_is_accepted_or_reported_in_one_line(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-0123456789")
    monkeypatch.setenv(name, value)
    faults = faults_of_load()
    assert all(fault.isprintable() and ": " in fault for fault in faults)


@pytest.mark.parametrize(
    ("written", "host"), [("redis", "redis"), ("10.0.0.1", "10.0.0.1"), ("::1", "[::1]"), ("[::1]", "[::1]")]
)
def test_redis_host_is_a_host(monkeypatch: pytest.MonkeyPatch, written: str, host: str) -> None:
    settings = set_all(monkeypatch, MODEL_PROVIDER="echo", REDIS_HOST=written)
    assert settings.redis_address == f"redis://{host}:6379/0"


@pytest.mark.parametrize(
    "written", ["redis:6379", "redis://redis", "redis/0", "user@redis", "re dis", "redis\nx", "a..b", "'redis'"]
)
def test_anything_but_a_bare_host_is_rejected(monkeypatch: pytest.MonkeyPatch, written: str) -> None:
    with pytest.raises(SettingsError, match=r"^REDIS_HOST: "):
        set_all(monkeypatch, MODEL_PROVIDER="echo", REDIS_HOST=written)
