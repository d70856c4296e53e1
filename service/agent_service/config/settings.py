"""Every setting of the service, in one model.

Sources, the first that has a value wins: environment variables, a `.env` file in the working directory, one file
per setting in the folder that SECRETS_DIR names (as Kubernetes mounts a Secret). Empty values count as not set.
"""

import ipaddress
import os
import re
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import quote, urlsplit

from pydantic import AliasChoices, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from agent_service.config.sources import ENV_FILE, ENV_FILE_ENCODING, given
from agent_service.config.values import (
    LONGEST_SYSTEM_PROMPT,
    check_with_redis_py,
    check_with_yarl,
    unquoted,
    valid_client_keys,
    valid_host,
    valid_key,
    valid_system_prompt,
)
from agent_service.network.addresses import host_name, model_api_address, redis_address

API_KEY_NAME = "ANTHROPIC_API_KEY"
CLIENT_KEYS_NAME = "API_KEYS"
SYSTEM_PROMPT_NAME = "SYSTEM_PROMPT"
# Where the XDG Base Directory Specification wants what a program keeps between its runs.
# `expanduser`, unlike Path.home, does not fail for a user with no home.
_STATE_HOME = Path(os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state"))

_Money = Annotated[Decimal, Field(ge=0, le=10**9, decimal_places=6, allow_inf_nan=False)]
_Seconds = Annotated[float, Field(allow_inf_nan=False)]


class Settings(BaseSettings):
    """What the service can be told. A field's name in upper case is its name in the environment.

    White space around a value is left out: a line end is easily read into a Secret, and is part of no value.
    """

    model_config = SettingsConfigDict(
        env_file=ENV_FILE,
        env_file_encoding=ENV_FILE_ENCODING,
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        validate_default=True,
    )

    environment: Literal["development", "testing", "staging", "production"] = Field(
        "development",
        description="What the service is for. In `production` the API documentation and the chat page are off, and "
        "unsafe settings end the start.",
    )
    debug: bool = Field(default=False, description="Logs at level DEBUG, whatever LOG_LEVEL says; not in production.")

    api_host: str = Field(
        "::",
        min_length=1,
        description="Address to listen on. `::` is all addresses, IPv6 and IPv4; where IPv6 is off, IPv4 alone.",
    )
    api_port: int = Field(
        8000,
        ge=0,
        le=65535,
        validation_alias=AliasChoices("API_PORT", "PORT"),
        description="Port to listen on; 0 takes any free one. `PORT`, as PaaS hosts set it, is read too.",
    )
    api_workers: int = Field(1, ge=1, le=64, description="Processes that answer on that port.")
    metrics_port: int | None = Field(
        None,
        ge=0,
        le=65535,
        description="Port of its own for `/metrics`, which is then not on the API's port. When not set, it is on the "
        "API's port, and in `production` nowhere.",
    )
    chat_page: bool | None = Field(
        None, description="Whether browsers get a chat page at `/`; when not set, they do outside production."
    )
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Names under which the service is reached, separated by commas: `agent.example.com`, "
        "`*.example.com`, or `*` for any. A request whose `Host` is another is answered 421. When not set, any host is "
        "taken, but on a loopback connection without client keys only `localhost`, addresses, and names without a dot.",
    )
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Origins whose pages may call the API, separated by commas; none when empty."
    )
    cors_allow_credentials: bool = Field(
        default=False,
        description="Lets those pages send cookies, for a proxy that wants them; not with the origin `*`.",
    )
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Addresses or networks of the proxies in front, separated by commas. Only from them "
        "`X-Forwarded-For` and `X-Forwarded-Proto` are believed.",
    )
    api_keys: SecretStr | None = Field(
        None,
        description="Keys that clients must show, separated by commas or line ends; anybody may call when not set.",
    )

    anthropic_api_key: SecretStr | None = Field(None, description="Key of the model API.")
    anthropic_base_url: str | None = Field(None, description="Address of the model API, when not Anthropic's own.")
    model_provider: Literal["anthropic", "echo"] = Field(
        "anthropic", description="`echo` answers from the message itself, with no key and no network."
    )
    default_model: str = Field("claude-sonnet-5-5", min_length=1, max_length=256, description="Model that answers.")
    max_tokens: int = Field(4096, ge=1, le=200_000, description="Most tokens in one answer.")
    allow_system_prompt: bool | None = Field(
        None,
        description="Whether a request to `/chat/stream` may replace the system prompt by its own; when not set, it "
        "may outside production.",
    )
    system_prompt: str | None = Field(
        None,
        max_length=LONGEST_SYSTEM_PROMPT,
        description="System prompt of every conversation. As a file in SECRETS_DIR it is read again when it changes.",
    )
    model_max_retries: int = Field(
        1, ge=0, le=10, description="How often a failed call to the model API is tried again while a client waits."
    )
    request_timeout_seconds: _Seconds = Field(
        60,
        gt=0,
        le=3600,
        description="Most seconds that an answer may take, retries included; of a stream, most seconds in which the "
        "model API sends nothing.",
    )
    stream_timeout_seconds: _Seconds = Field(
        300,
        gt=0,
        le=3600,
        description="Most seconds that a stream may take; `REQUEST_TIMEOUT_SECONDS` counts instead if that is more.",
    )
    stream_heartbeat_seconds: _Seconds = Field(
        15,
        gt=0,
        le=3600,
        description="Seconds of silence in a stream after which a comment line keeps proxies from cutting it.",
    )

    rate_limit_requests: int = Field(
        100, ge=0, le=1_000_000, description="Most requests of one client in a minute; 0 is no limit."
    )
    tokens_per_minute: int = Field(
        0, ge=0, le=1_000_000_000, description="Most tokens of the whole agent in a minute; 0 is no limit."
    )
    budget_tokens: int = Field(
        0, ge=0, le=10**15, description="Most tokens of the whole agent in a day or month (UTC); 0 is any number."
    )
    budget_cost: _Money = Field(
        Decimal(0), description="Most money of the whole agent in a day or month, by the prices; 0 is any amount."
    )
    budget_period: Literal["day", "month"] = Field("month", description="What the budget is for.")
    budget_action: Literal["warn", "stop"] = Field(
        "stop",
        description="When the budget is used up: `stop` answers 429 until the period ends, and lets tasks wait, or "
        "fail at their deadline; `warn` goes on and says so in the log and the metrics.",
    )
    price_input: _Money = Field(Decimal(0), description="Price of a million tokens sent to the model.")
    price_output: _Money = Field(Decimal(0), description="Price of a million tokens received from the model.")
    price_cache_write: _Money | None = Field(
        None, description="Price of a million tokens that the model API writes to its cache; else PRICE_INPUT."
    )
    price_cache_read: _Money | None = Field(
        None, description="Price of a million tokens that the model API reads from its cache; else PRICE_INPUT."
    )
    max_in_flight: int = Field(
        1024, ge=1, le=100_000, description="Most requests in flight in one pod; what is above gets 503 at once."
    )
    max_in_flight_per_client: int | None = Field(
        None,
        ge=1,
        le=100_000,
        description="Most requests in flight of one client (key or address) in one pod; what is above gets 429 at "
        "once. When not set, three quarters of MAX_IN_FLIGHT.",
    )
    max_connections: int | None = Field(
        None,
        ge=64,
        le=1_000_000,
        description="Most open connections of one pod; above it the one that is idle for longest is closed. When not "
        "set, 4,096, or twice MAX_IN_FLIGHT if that is more. Fewer where the limit of open files is too low.",
    )
    keep_alive_seconds: int = Field(
        620,
        ge=1,
        le=86_400,
        description="Seconds for which an idle connection stays open; longer than the load balancers in front keep "
        "theirs.",
    )
    write_timeout_seconds: _Seconds = Field(
        30, gt=0, le=3600, description="Seconds after which a connection is closed whose client does not read."
    )
    max_body_bytes: int = Field(
        256 * 1024, ge=1024, le=64 * 1024 * 1024, description="Largest request body, in bytes; what is above gets 413."
    )

    redis_url: SecretStr | None = Field(
        None,
        description="Where the state lives: `redis://`, `rediss://` or `unix://`. With neither this nor REDIS_HOST the "
        "service starts a Valkey of its own, which serves this one machine or pod.",
    )
    redis_host: str | None = Field(None, min_length=1, description="Host of the Redis server, in place of REDIS_URL.")
    redis_port: int = Field(6379, ge=1, le=65535, description="Port on REDIS_HOST.")
    redis_password: SecretStr | None = Field(None, description="Password for REDIS_HOST.")
    state_dir: Path = Field(
        _STATE_HOME / "portside",
        description="Folder in which the service's own Valkey keeps its data. One running service per folder.",
    )
    state_prefix: str = Field(
        "portside",
        pattern=r"^[A-Za-z0-9._/-]{1,128}$",
        description="First part of every key in Redis; give each agent its own where several share a server.",
    )

    conversation_max_messages: int = Field(
        40, ge=0, le=1000, description="Most messages of a conversation that are remembered; 0 remembers nothing."
    )
    conversation_max_tokens: int = Field(
        32_000, ge=1, le=1_000_000, description="Most tokens (estimated) of a conversation that are remembered."
    )
    conversation_ttl_seconds: int = Field(
        86_400,
        ge=1,
        le=31_536_000,
        description="Seconds after which a conversation that nobody goes on with is forgotten.",
    )

    task_timeout_seconds: _Seconds = Field(
        300, gt=0, le=86_400, description="Most seconds that one attempt at a task may take."
    )
    task_deadline_seconds: _Seconds = Field(
        3600,
        gt=0,
        le=604_800,
        description="Seconds from its acceptance in which a task must be done, waiting included.",
    )
    task_max_attempts: int = Field(
        5, ge=1, le=100, description="How often a task is tried, when it fails for what may pass or its worker dies."
    )
    task_result_ttl_seconds: int = Field(
        86_400, ge=1, le=31_536_000, description="Seconds for which a finished task can be looked up."
    )
    task_queue_limit: int = Field(
        100_000, ge=1, le=10_000_000, description="Most tasks that may wait; what is above gets 503."
    )
    worker_concurrency: int = Field(8, ge=1, le=1000, description="Tasks that one worker process works on at once.")
    api_runs_tasks: bool | None = Field(
        None,
        description="Whether the API's own process works on tasks; when not set, it does where there is no Redis "
        "configured, and leaves them to `agent-service worker` where there is.",
    )

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="Lowest level that is logged.")
    log_format: Literal["json", "text"] = Field("json", description="Form of a log line.")
    log_content: bool = Field(
        default=False, description="Logs what users write and what the agent answers; keys are never logged."
    )
    otel_exporter_otlp_endpoint: str | None = Field(
        None, description="Where traces go (OTLP over HTTP), such as http://collector:4318; nowhere when not set."
    )
    otel_propagators: str = Field(
        "tracecontext,baggage",
        description="By which headers callers pass their traces on: those of the W3C are there, others are left out, "
        "and `none` takes none. In the environment only.",
    )
    secrets_dir: Path | None = Field(
        None,
        description="Folder with one file per secret setting. A changed key file is used from the next request on.",
    )

    @model_validator(mode="before")
    @classmethod
    def _trim(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        trimmed = {name: value.strip() if isinstance(value, str) else value for name, value in values.items()}
        return {name: value for name, value in trimmed.items() if value != ""}

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

    @field_validator("allowed_hosts", "cors_origins", "trusted_proxies", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        # The JSON list is how the variable was written in this service's first days; both forms stay readable.
        if not isinstance(value, str):
            return value
        return tuple(part.strip(" []\"'").rstrip("/") for part in value.split(",") if part.strip(" []\"'"))

    @field_validator("allowed_hosts")
    @classmethod
    def _host_names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(valid_host(each) for each in value)

    @field_validator("cors_origins")
    @classmethod
    def _origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            parts = urlsplit(origin)
            if origin != "*" and (parts.scheme not in {"http", "https"} or not parts.netloc or parts.path):
                raise ValueError(f"'{origin}' is not an origin; write it as https://host or https://host:port")
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for network in value:
            try:
                ipaddress.ip_network(network)
            except ValueError:
                raise ValueError(f"'{network}' is neither an address nor a network such as 10.0.0.0/8") from None
        return value

    @field_validator("system_prompt")
    @classmethod
    def _not_blank(cls, value: str | None) -> str | None:
        return valid_system_prompt(value or "")

    @field_validator("anthropic_base_url")
    @classmethod
    def _http_url(cls, value: str | None) -> str | None:
        # Kept as it was written: its user logs what is left out.
        if value is not None:
            check_with_yarl(model_api_address(value)[0])
        return value

    @field_validator("redis_host")
    @classmethod
    def _host(cls, value: str | None) -> str | None:
        return None if value is None else host_name(value)

    @field_validator("api_host", "default_model", "redis_host", "state_dir", "secrets_dir", mode="before")
    @classmethod
    def _one_line(cls, value: object) -> object:
        if isinstance(value, str) and re.search(r"[\x00-\x1f\x7f]", value):
            raise ValueError("must not hold line ends or other control characters")
        return unquoted(value) if isinstance(value, str) else value

    @field_validator("redis_url")
    @classmethod
    def _redis_url(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None:
            return None
        address = redis_address(value.get_secret_value())
        check_with_redis_py(address)
        return SecretStr(address)

    @field_validator("api_keys")
    @classmethod
    def _client_keys(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            valid_client_keys(value.get_secret_value())
        return value

    @field_validator("anthropic_api_key", mode="before")
    @classmethod
    def _key(cls, value: object) -> object:
        raw = value.get_secret_value() if isinstance(value, SecretStr) else value
        return valid_key(unquoted(raw)) if isinstance(raw, str) else raw

    @field_validator("secrets_dir")
    @classmethod
    def _folder(cls, value: Path | None) -> Path | None:
        if value is not None and not value.is_dir():
            raise ValueError("is not a folder; create it, or leave SECRETS_DIR unset")
        return value

    @field_validator("api_port", "redis_port", "metrics_port", mode="before")
    @classmethod
    def _service_link(cls, value: object) -> object:
        if isinstance(value, str) and value.startswith("tcp://"):
            raise ValueError(
                "holds a Kubernetes service link, because a Service of this namespace is named like the variable; "
                "set enableServiceLinks: false on the pod"
            )
        return value

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        faults = []
        if self.model_provider == "anthropic" and self.anthropic_api_key is None:
            faults.append(
                f"{API_KEY_NAME}: is not set; set it, put the key into a file of that name in SECRETS_DIR, "
                "or set MODEL_PROVIDER=echo to run with no model"
            )
        # A browser refuses the pair, and Starlette makes "any origin, with cookies" of it.
        if "*" in self.cors_origins and self.cors_allow_credentials:
            faults.append("CORS_ALLOW_CREDENTIALS: cannot be true while CORS_ORIGINS is *; name the origins")
        if self.is_production and self.debug:
            faults.append("DEBUG: must be off in production; set DEBUG=false, or another ENVIRONMENT")
        if self.redis_url is not None and self.redis_host is not None:
            faults.append("REDIS_HOST: cannot be set beside REDIS_URL; remove one of them")
        # A model that costs nothing has prices too.
        if self.budget_cost and not self.model_fields_set & {"price_input", "price_output"}:
            faults.append("BUDGET_COST: needs prices to count by; set PRICE_INPUT and PRICE_OUTPUT")
        if faults:
            raise ValueError("\n".join(faults))
        return self

    @property
    def is_production(self) -> bool:
        """Whether this is the environment in which nothing is shown that users do not need."""
        return self.environment == "production"

    @property
    def shows_metrics(self) -> bool:
        """Whether `/metrics` is on the API's own port, where every caller can read it."""
        return self.metrics_port is None and not self.is_production

    @property
    def takes_system_prompts(self) -> bool:
        """Whether callers may replace the agent's system prompt."""
        return not self.is_production if self.allow_system_prompt is None else self.allow_system_prompt

    @property
    def model(self) -> str:
        """The name of the model that answers, as metrics and answers tell it."""
        return "echo" if self.model_provider == "echo" else self.default_model

    @property
    def lowest_level(self) -> str:
        """The lowest level that is logged, DEBUG considered."""
        return "DEBUG" if self.debug else self.log_level

    @property
    def redis_address(self) -> str | None:
        """The configured Redis server as an address, password included; None when there is none configured."""
        if self.redis_url is not None:
            return self.redis_url.get_secret_value()
        if self.redis_host is None:
            return None
        host = f"[{self.redis_host}]" if ":" in self.redis_host else self.redis_host
        user = f":{quote(self.redis_password.get_secret_value(), safe='')}@" if self.redis_password else ""
        return f"redis://{user}{host}:{self.redis_port}/0"

    @property
    def longest_answer_seconds(self) -> float:
        """Most seconds that an answer may take, streamed or not."""
        return max(self.request_timeout_seconds, self.stream_timeout_seconds)

    @property
    def runs_tasks(self) -> bool:
        """Whether the API's own process works on tasks."""
        return self.redis_address is None if self.api_runs_tasks is None else self.api_runs_tasks

    def secret_file(self, name: str) -> Path | None:
        """The file that the secret setting `name` is read from, or None when the environment or `.env` holds it."""
        if self.secrets_dir is None or given(name):
            return None
        return self.secrets_dir / name
