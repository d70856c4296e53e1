"""Every setting of the service, in one model.

Sources, the first that has a value wins: environment variables, a `.env` file in the working directory, one file
per setting in the folder that SECRETS_DIR names (as Kubernetes mounts a Secret). Empty values count as not set.
"""

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from dotenv import dotenv_values
from pydantic import AliasChoices, Field, SecretStr, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

API_KEY_NAME = "ANTHROPIC_API_KEY"
ENV_FILE = ".env"

# The address may hold a password, which is one of the faults that are told.
_NEVER_SHOWN = frozenset({API_KEY_NAME, "ANTHROPIC_BASE_URL"})

# A key travels in an HTTP header (RFC 9110, 5.5): visible ASCII only, so that a stray line feed cannot break the call.
_KEY_SHAPE = re.compile(r"[\x21-\x7e]+")


class SettingsError(Exception):
    """The settings cannot be used. `faults` holds one line for each fault; none of them shows a secret."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


class Settings(BaseSettings):
    """What the service can be told. A field's name in upper case is its name in the environment."""

    model_config = SettingsConfigDict(
        env_file=ENV_FILE, env_ignore_empty=True, extra="ignore", frozen=True, validate_default=True
    )

    environment: Literal["development", "testing", "staging", "production"] = Field(
        "development", description="In `production` the API documentation pages are off."
    )
    debug: bool = Field(default=False, description="Logs at level DEBUG, whatever LOG_LEVEL says.")
    api_host: str = Field("0.0.0.0", min_length=1, description="Address to listen on.")  # noqa: S104  # a pod listens on all
    api_port: int = Field(
        8000,
        ge=0,
        le=65535,
        validation_alias=AliasChoices("API_PORT", "PORT"),
        description="Port to listen on; 0 takes any free one. `PORT`, as PaaS hosts set it, is read too.",
    )
    anthropic_api_key: SecretStr | None = Field(None, description="Key of the model API.")
    anthropic_base_url: str | None = Field(None, description="Address of the model API, when not Anthropic's own.")
    model_provider: Literal["anthropic", "echo"] = Field(
        "anthropic", description="`echo` answers from the message itself, with no key and no network."
    )
    default_model: str = Field("claude-sonnet-5-5", min_length=1, max_length=256, description="Model that answers.")
    max_tokens: int = Field(4096, ge=1, le=200_000, description="Most tokens in one answer.")
    system_prompt: str | None = Field(None, max_length=100_000, description="System prompt of every conversation.")
    request_timeout_seconds: float = Field(
        60, gt=0, le=3600, allow_inf_nan=False, description="Most seconds that one answer may take, streamed or not."
    )
    stream_heartbeat_seconds: float = Field(
        15,
        gt=0,
        le=3600,
        allow_inf_nan=False,
        description="Seconds of silence in a stream after which a comment line keeps proxies from cutting it.",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="Lowest level that is logged.")
    log_format: Literal["json", "text"] = Field("json", description="Form of a log line.")
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Origins whose pages may call the API, separated by commas; none when empty."
    )
    secrets_dir: Path | None = Field(
        None,
        description="Folder with one file per secret setting. A changed key file is used from the next request on.",
    )

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

    @field_validator("cors_origins", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        # The JSON list is how the variable was written in this service's first days; both forms stay readable.
        if not isinstance(value, str):
            return value
        return tuple(part.strip(" []\"'").rstrip("/") for part in value.split(",") if part.strip(" []\"'"))

    @field_validator("cors_origins")
    @classmethod
    def _origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            parts = urlsplit(origin)
            if origin != "*" and (parts.scheme not in {"http", "https"} or not parts.netloc or parts.path):
                raise ValueError(f"'{origin}' is not an origin; write it as https://host or https://host:port")
        return value

    @field_validator("system_prompt")
    @classmethod
    def _not_blank(cls, value: str | None) -> str | None:
        # The model API refuses a text of white space alone, and with it every request.
        return value if value and value.strip() else None

    @field_validator("anthropic_base_url")
    @classmethod
    def _http_url(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(value)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError("must be an address that begins with http:// or https://")
        if parts.username or parts.password:
            raise ValueError("must not hold a user name or password; the key goes into ANTHROPIC_API_KEY")
        return value

    @field_validator("anthropic_api_key", mode="before")
    @classmethod
    def _key(cls, value: object) -> object:
        raw = value.get_secret_value() if isinstance(value, SecretStr) else value
        return valid_key(raw) if isinstance(raw, str) else raw

    @field_validator("secrets_dir")
    @classmethod
    def _folder(cls, value: Path | None) -> Path | None:
        if value is not None and not value.is_dir():
            raise ValueError("is not a folder; create it, or leave SECRETS_DIR unset")
        return value

    @field_validator("api_port", mode="before")
    @classmethod
    def _service_link(cls, value: object, _: ValidationInfo) -> object:
        if isinstance(value, str) and value.startswith("tcp://"):
            raise ValueError(
                "holds a Kubernetes service link, because a Service of this namespace is named like the variable; "
                "set enableServiceLinks: false on the pod"
            )
        return value

    @model_validator(mode="after")
    def _needs_a_key(self) -> Self:
        if self.model_provider == "anthropic" and self.anthropic_api_key is None:
            raise ValueError(
                f"{API_KEY_NAME}: is not set; set it, put the key into a file of that name in SECRETS_DIR, "
                "or set MODEL_PROVIDER=echo to run with no model"
            )
        return self

    @property
    def is_production(self) -> bool:
        """Whether this is the environment in which nothing is shown that users do not need."""
        return self.environment == "production"

    @property
    def key_file(self) -> Path | None:
        """The file that the key is read from, or None when the environment or `.env` holds it."""
        if self.secrets_dir is None or _given(API_KEY_NAME):
            return None
        return self.secrets_dir / API_KEY_NAME


def valid_key(raw: str) -> str:
    """Give the key with surrounding white space removed.

    Raises:
        ValueError: if what is left is empty or cannot be sent in a header. The message does not show it.
    """
    key = raw.strip()
    if not _KEY_SHAPE.fullmatch(key):
        raise ValueError("is empty, or holds characters that no key has (white space, control or non-ASCII characters)")
    return key


def load(**overrides: object) -> Settings:
    """Read the settings from all sources; `overrides` (from the command line) win over them.

    Raises:
        SettingsError: with one line for each fault.
    """
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        folder = _given("SECRETS_DIR")
        # A folder that is not there is reported by the field, as a fault like any other.
        return Settings(_secrets_dir=folder if folder and Path(folder).is_dir() else None, **given)  # type: ignore[arg-type]
    except ValidationError as error:
        raise SettingsError(sorted({_line(fault) for fault in error.errors(include_url=False)})) from None
    except (OSError, UnicodeDecodeError) as error:
        where = getattr(error, "filename", None) or f"{ENV_FILE} or a file in SECRETS_DIR"
        reason = getattr(error, "strerror", None) or "is not UTF-8 text"
        raise SettingsError([f"{where}: cannot be read: {reason}"]) from None


def _given(name: str) -> str | None:
    """Give a setting's raw value from the environment or the `.env` file."""
    for names in (os.environ, dotenv_values(ENV_FILE)):
        for key, value in names.items():
            if key.upper() == name and value:
                return value
    return None


def _line(fault: Any) -> str:
    message = str(fault["msg"]).removeprefix("Value error, ")
    if not fault["loc"]:
        return message
    name = str(fault["loc"][0]).upper()
    name = {"PORT": "API_PORT (or PORT)", "API_PORT": "API_PORT (or PORT)"}.get(name, name)
    shown = fault["input"] if name not in _NEVER_SHOWN else None
    message = message[:1].lower() + message[1:]
    return f"{name}: {message}" + (f" (it is {shown!r:.80})" if isinstance(shown, (str, int, float)) else "")
