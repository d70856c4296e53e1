"""Every setting of the service, in one model.

Sources, in order of precedence: environment variables, a `.env` file in the working directory, and one file per
setting in the folder that SECRETS_DIR names (as Kubernetes mounts a Secret). Empty values count as not set.
"""

import ipaddress
import json
import os
import re
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import quote, urlsplit

from pydantic import AliasChoices, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from agent_service.config.client_keys import client_keys, is_client_id
from agent_service.config.fallbacks import Fallback, fallback_faults, read_fallbacks
from agent_service.config.providers import Provider, has_identity, missing_credential, provider_faults
from agent_service.config.sources import ENV_FILE, ENV_FILE_ENCODING, given
from agent_service.config.values import (
    LONGEST_SYSTEM_PROMPT,
    check_with_redis_py,
    check_with_yarl,
    unquoted,
    valid_host,
    valid_key,
    valid_service_account_key,
    valid_system_prompt,
)
from agent_service.network.addresses import host_name, http_address, model_api_address, redis_address, runtime_address

CLIENT_KEYS_NAME = "API_KEYS"
SYSTEM_PROMPT_NAME = "SYSTEM_PROMPT"
# The folder of the XDG Base Directory Specification for data that a program keeps between its runs.
# Unlike `Path.home`, `expanduser` does not fail for a user without a home.
_STATE_HOME = Path(os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state"))

_Money = Annotated[Decimal, Field(ge=0, le=10**9, decimal_places=6, allow_inf_nan=False)]
_Seconds = Annotated[float, Field(allow_inf_nan=False)]


class Settings(BaseSettings):
    """All settings of the service. A field's name in upper case is its name in the environment.

    White space around a value is removed: a line end easily gets into a Secret, and no value contains one.
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
        description="Environment in which the service runs. In `production`, the API documentation and the chat page "
        "are off, and the service refuses to start with unsafe settings.",
    )
    debug: bool = Field(
        default=False, description="Whether to log at level DEBUG, regardless of LOG_LEVEL. Not allowed in production."
    )

    api_host: str = Field(
        "::",
        min_length=1,
        description="Address to listen on. `::` is all addresses, IPv6 and IPv4; where IPv6 is off, IPv4 only.",
    )
    api_port: int = Field(
        8000,
        ge=0,
        le=65535,
        validation_alias=AliasChoices("API_PORT", "PORT"),
        description="Port to listen on; 0 takes any free port. `PORT`, which PaaS hosts set, is read too.",
    )
    api_workers: int = Field(1, ge=1, le=64, description="Number of processes that serve the API's port.")
    metrics_port: int | None = Field(
        None,
        ge=0,
        le=65535,
        description="Separate port for `/metrics`, which is then not on the API's port. When unset, `/metrics` is on "
        "the API's port, except in `production`, where it is on no port.",
    )
    chat_page: bool | None = Field(
        None, description="Whether browsers get a chat page at `/`. When unset, they get it outside production."
    )
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Host names under which clients reach the service, separated by commas: `agent.example.com`, "
        "`*.example.com`, or `*` for any. A request with any other `Host` is answered with 421. When unset, any host "
        "is accepted; but on a loopback connection without client keys, only `localhost`, addresses, and names "
        "without a dot.",
    )
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Origins whose pages may call the API, separated by commas. When empty, no origin may."
    )
    cors_allow_credentials: bool = Field(
        default=False,
        description="Whether pages of the allowed origins may send cookies, for a proxy that needs them. Not allowed "
        "with the origin `*`.",
    )
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Addresses or networks of the proxies in front of the service, separated by commas. "
        "`X-Forwarded-For` and `X-Forwarded-Proto` are trusted only from these.",
    )
    api_keys: SecretStr | None = Field(
        None,
        description="Keys of the clients, separated by commas or line ends, each with or without a name (`name: key`); "
        "a client must send one of them. When unset, any client may call the API.",
    )
    jwt_file: Path | None = Field(
        None,
        description="JSON file with the `issuers` whose tokens (JWT) clients may send instead of a key, in the form of "
        "`auth.jwt` of the spec. A changed file takes effect with the next request.",
    )

    anthropic_api_key: SecretStr | None = Field(None, description="Key of the model API.")
    anthropic_base_url: str | None = Field(None, description="Address of the model API, if it is not Anthropic's own.")
    model_provider: Provider = Field(
        "anthropic",
        description="Provider of the model: Anthropic, Amazon Bedrock, Google Vertex AI or Microsoft Foundry. `echo` "
        "answers from the message itself, without a key or a network.",
    )
    model_ids: Annotated[dict[str, str], NoDecode] = Field(
        {},
        description="IDs of models at the provider, as a JSON object whose keys are the names in DEFAULT_MODEL and "
        "GATEWAY_MODELS: model IDs or inference profiles of Bedrock, model IDs of Vertex AI, deployments of Foundry. "
        "A model without an entry is called by its name.",
    )
    bedrock_region: str | None = Field(None, description="AWS region of Bedrock, such as `eu-central-1`.")
    bedrock_api: Literal["invoke", "messages"] = Field(
        "invoke",
        description="API of Bedrock that is called: `invoke` is InvokeModel of Bedrock Runtime, which takes inference "
        "profiles; `messages` is the Messages API of Claude in Amazon Bedrock, which newer models have.",
    )
    bedrock_base_url: str | None = Field(
        None,
        description="Address of Bedrock, if it is not that of the region: a VPC endpoint or a proxy. With "
        "BEDROCK_API=messages it ends with `/anthropic`.",
    )
    aws_access_key_id: SecretStr | None = Field(None, description="ID of the access key for Bedrock.")
    aws_secret_access_key: SecretStr | None = Field(None, description="Secret of the access key for Bedrock.")
    aws_session_token: SecretStr | None = Field(None, description="Session token, if the access key is temporary.")
    aws_bearer_token_bedrock: SecretStr | None = Field(
        None, description="API key of Bedrock. It takes precedence over the access key."
    )
    vertex_project: str | None = Field(None, description="ID of the Google Cloud project whose Vertex AI is called.")
    vertex_region: str | None = Field(
        None, description="Location of Vertex AI: a region such as `europe-west1`, or `global`, `eu` or `us`."
    )
    vertex_base_url: str | None = Field(
        None, description="Address of Vertex AI, if it is not that of the region: a private endpoint or a proxy."
    )
    google_service_account_key: SecretStr | None = Field(
        None, description="Key of a Google service account for Vertex AI: the content of its JSON file."
    )
    foundry_resource: str | None = Field(None, description="Name of the Foundry resource in Azure.")
    foundry_base_url: str | None = Field(
        None, description="Address of the Foundry resource, in place of its name: a private endpoint or a proxy."
    )
    anthropic_foundry_api_key: SecretStr | None = Field(None, description="API key of the Foundry resource.")
    identity_token_file: Path | None = Field(
        None,
        description="File with a token of the pod's ServiceAccount, which is exchanged for a short-lived credential in "
        "place of any key (workload identity). It is read again for each exchange.",
    )
    identity_token_url: str | None = Field(
        None,
        description="Address of the service that exchanges the token, if it is not the provider's own: a private "
        "endpoint, a proxy, or a cloud of a government. For Google also that of IAM Credentials.",
    )
    anthropic_federation_rule_id: str | None = Field(
        None, description="ID of the federation rule of Anthropic that trusts the token (`fdrl_…`)."
    )
    anthropic_organization_id: str | None = Field(None, description="ID of the organization at Anthropic.")
    anthropic_service_account_id: str | None = Field(
        None, description="ID of the service account at Anthropic, if the rule allows several (`svac_…`)."
    )
    anthropic_workspace_id: str | None = Field(
        None, description="ID of the workspace at Anthropic, if the rule allows several (`wrkspc_…`)."
    )
    aws_role_arn: str | None = Field(None, description="ARN of the role of AWS that trusts the token.")
    aws_container_credentials_full_uri: str | None = Field(
        None, description="Address of the EKS Pod Identity Agent, which is asked if there is no AWS_ROLE_ARN."
    )
    google_identity_provider: str | None = Field(
        None,
        pattern=r"^projects/[0-9]+/locations/global/workloadIdentityPools/[a-z0-9-]+/providers/[a-z0-9-]+$",
        description="Provider of the workload identity pool of Google Cloud that trusts the token: "
        "`projects/NUMBER/locations/global/workloadIdentityPools/POOL/providers/PROVIDER`.",
    )
    google_service_account: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9.-]+@[A-Za-z0-9.-]+$",
        description="Email address of the Google service account that is impersonated; without it, the pool's "
        "principal itself has the permissions.",
    )
    azure_tenant_id: str | None = Field(
        None, pattern=r"^[A-Za-z0-9.-]+$", description="ID of the tenant of Microsoft Entra."
    )
    azure_client_id: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9-]+$",
        description="Client ID of the application or managed identity of Microsoft Entra that trusts the token.",
    )
    default_model: str = Field("claude-sonnet-5-5", min_length=1, max_length=256, description="Model that answers.")
    max_tokens: int = Field(4096, ge=1, le=200_000, description="Maximum number of tokens in one answer.")
    allow_system_prompt: bool | None = Field(
        None,
        description="Whether a request to `/chat/stream` may replace the system prompt with its own. When unset, it "
        "may outside production.",
    )
    system_prompt: str | None = Field(
        None,
        max_length=LONGEST_SYSTEM_PROMPT,
        description="System prompt of every conversation. A file in SECRETS_DIR is read again when it changes.",
    )
    model_max_retries: int = Field(
        1, ge=0, le=10, description="Maximum number of retries of a failed call to the model API while a client waits."
    )
    model_fallbacks: str | None = Field(
        None,
        description="Providers that are asked in order when the one before does not answer, as a JSON list in the form "
        "of `agent.fallbacks` of the spec: at most four objects with `provider`, `model` and the block of the "
        "provider. `secretsDir` is a folder in SECRETS_DIR with the credentials of an entry; without it, they are "
        "those of the settings. `prices` has `input`, `output`, `cacheWrite` and `cacheRead` of its model.",
    )
    model_fallback_seconds: _Seconds = Field(
        20,
        gt=0,
        le=600,
        description="Maximum time in seconds until a streamed answer begins at a provider, if there is another to ask. "
        "At most half of REQUEST_TIMEOUT_SECONDS.",
    )
    runtime_url: str | None = Field(
        None,
        description="Address of the agent's own container, its runtime, such as http://127.0.0.1:8080. When unset, the "
        "built-in agent answers.",
    )
    runtime_protocol: Literal["invocations", "a2a", "openai", "http"] = Field(
        "invocations",
        description="Protocol in which the runtime is called. With `http`, the service has no chat and no tasks: it "
        "passes all paths but its own to the runtime, and WebSockets, which have no time limit.",
    )
    runtime_path: str | None = Field(
        None,
        pattern=r"^/[!-~]*$",
        max_length=1024,
        description="Path of the runtime's endpoint. Defaults to `/invocations`, to `/v1/chat/completions`, to the "
        "address in the agent card (`a2a`), or to `/`, to which the paths of requests are appended (`http`).",
    )
    runtime_health_path: str | None = Field(
        None,
        pattern=r"^/[!-~]*$",
        max_length=1024,
        description="Path that responds with 2xx while the runtime works. Defaults to `/ping`, "
        "`/.well-known/agent-card.json` (`a2a`), `/health` (`openai`) or `/` (`http`).",
    )
    gateway_port: int | None = Field(
        None,
        ge=0,
        le=65535,
        description="Port on 127.0.0.1 where the runtime reaches the model API without a key; 0 takes any free port. "
        "When unset, there is no gateway.",
    )
    gateway_models: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Models that the gateway may call besides DEFAULT_MODEL, separated by commas."
    )
    gateway_max_tokens: int = Field(
        128_000,
        ge=1,
        le=1_000_000,
        description="Maximum number of tokens of one answer through the gateway. A higher `max_tokens` of a call is "
        "lowered to it.",
    )
    gateway_prompt_caching: bool = Field(
        default=True,
        description="Whether the gateway marks the beginning of a conversation for the cache of the model API where "
        "the caller marks nothing.",
    )
    request_timeout_seconds: _Seconds = Field(
        60,
        gt=0,
        le=3600,
        description="Maximum time of an answer in seconds, including retries. For a stream, the maximum time in which "
        "the model API sends nothing.",
    )
    stream_timeout_seconds: _Seconds = Field(
        300,
        gt=0,
        le=3600,
        description="Maximum time of a stream in seconds. `REQUEST_TIMEOUT_SECONDS` applies instead if it is greater.",
    )
    stream_heartbeat_seconds: _Seconds = Field(
        15,
        gt=0,
        le=3600,
        description="Seconds of silence after which a stream sends a comment line, so that proxies do not close it.",
    )

    rate_limit_requests: int = Field(
        100, ge=0, le=1_000_000, description="Maximum number of requests of one client per minute; 0 means no limit."
    )
    tokens_per_minute: int = Field(
        0,
        ge=0,
        le=1_000_000_000,
        description="Maximum number of tokens of the whole agent per minute; 0 means no limit.",
    )
    client_rate_limit_requests: int = Field(
        0,
        ge=0,
        le=1_000_000,
        description="Maximum number of requests per minute of one client with a key or a token, in place of "
        "RATE_LIMIT_REQUESTS; 0 means the same as for other clients.",
    )
    client_tokens_per_minute: int = Field(
        0,
        ge=0,
        le=1_000_000_000,
        description="Maximum number of tokens per minute of one client with a key or a token; 0 means no limit.",
    )
    tenant_rate_limit_requests: int = Field(
        0,
        ge=0,
        le=1_000_000,
        description="Maximum number of requests per minute of all clients of one tenant; 0 means no limit.",
    )
    tenant_tokens_per_minute: int = Field(
        0,
        ge=0,
        le=1_000_000_000,
        description="Maximum number of tokens per minute of all clients of one tenant; 0 means no limit.",
    )
    budget_tokens: int = Field(
        0,
        ge=0,
        le=10**15,
        description="Maximum number of tokens of the whole agent per day or month (UTC); 0 means no limit.",
    )
    budget_cost: _Money = Field(
        Decimal(0),
        description="Maximum cost of the whole agent per day or month, by the configured prices; 0 means no limit.",
    )
    budget_period: Literal["day", "month"] = Field("month", description="Period that the budget covers.")
    budget_action: Literal["warn", "stop"] = Field(
        "stop",
        description="Action when the budget is used up. `stop` answers with 429 until the period ends; tasks wait, or "
        "fail at their deadline. `warn` continues, and reports it in the log and the metrics.",
    )
    client_budget_tokens: int = Field(
        0,
        ge=0,
        le=10**15,
        description="Maximum number of tokens of one client with a key or a token in the period of the budget; 0 means "
        "no limit.",
    )
    client_budget_cost: _Money = Field(
        Decimal(0), description="Maximum cost of one client in the period of the budget; 0 means no limit."
    )
    tenant_budget_tokens: int = Field(
        0,
        ge=0,
        le=10**15,
        description="Maximum number of tokens of all clients of one tenant in the period of the budget; 0 means no "
        "limit.",
    )
    tenant_budget_cost: _Money = Field(
        Decimal(0),
        description="Maximum cost of all clients of one tenant in the period of the budget; 0 means no limit.",
    )
    usage_readers: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Clients that may read the usage of all clients (`GET /usage/clients`, `GET /usage/history`): the "
        "names of their keys, separated by commas.",
    )
    usage_history_days: int = Field(
        90,
        ge=1,
        le=400,
        description="Days for which the usage of each client is kept (`GET /usage/history`).",
    )
    price_input: _Money = Field(Decimal(0), description="Price of a million tokens sent to the model.")
    price_output: _Money = Field(Decimal(0), description="Price of a million tokens received from the model.")
    price_cache_write: _Money | None = Field(
        None, description="Price of a million tokens that the model API writes to its cache. Defaults to PRICE_INPUT."
    )
    price_cache_read: _Money | None = Field(
        None, description="Price of a million tokens that the model API reads from its cache. Defaults to PRICE_INPUT."
    )
    max_in_flight: int = Field(
        1024,
        ge=1,
        le=100_000,
        description="Maximum number of requests in flight in one pod. Further requests get 503 at once.",
    )
    max_in_flight_per_client: int | None = Field(
        None,
        ge=1,
        le=100_000,
        description="Maximum number of requests in flight of one client (key or address) in one pod. Further requests "
        "get 429 at once. When unset, three quarters of MAX_IN_FLIGHT.",
    )
    max_connections: int | None = Field(
        None,
        ge=64,
        le=1_000_000,
        description="Maximum number of open connections of one pod. Above it, the connection that has been idle for "
        "longest is closed. When unset, 4,096, or twice MAX_IN_FLIGHT if that is more. Lower if the limit of open "
        "files is too low.",
    )
    keep_alive_seconds: int = Field(
        620,
        ge=1,
        le=86_400,
        description="Seconds for which an idle connection stays open. Set it to more than the idle timeout of the "
        "load balancers in front of the service.",
    )
    write_timeout_seconds: _Seconds = Field(
        30, gt=0, le=3600, description="Seconds after which a connection is closed if its client does not read."
    )
    max_body_bytes: int = Field(
        256 * 1024,
        ge=1024,
        le=64 * 1024 * 1024,
        description="Maximum size of a request body in bytes. Larger requests get 413.",
    )

    agent_name: str = Field(
        "agent",
        pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,126}[A-Za-z0-9])?$",
        description="Name of the agent: the name of its model for clients of OpenAI and Anthropic, and its name for "
        "clients of A2A and MCP.",
    )
    agent_description: str | None = Field(
        None,
        min_length=1,
        max_length=1000,
        description="What the agent does, for clients of A2A and MCP.",
    )
    api_openai: bool = Field(True, description="Whether clients of OpenAI are answered, at `/v1/chat/completions`, …")
    api_anthropic: bool = Field(True, description="Whether clients of Anthropic are answered, at `/v1/messages`.")
    api_a2a: bool = Field(True, description="Whether A2A clients are answered, at `/a2a`.")
    api_mcp: bool = Field(False, description="Whether the agent is offered as an MCP tool, at `/mcp`.")
    api_client_tools: bool = Field(
        False,
        description="Whether the model may call tools that clients of OpenAI and Anthropic send and run themselves. If "
        "not, requests with tools are refused.",
    )
    api_max_body_bytes: int = Field(
        8 * 1024 * 1024,
        ge=1024,
        le=64 * 1024 * 1024,
        description="Maximum size in bytes of a request body in the protocols of other clients, which may have the "
        "whole history and images.",
    )
    api_max_input_tokens: int = Field(
        150_000,
        ge=1,
        le=2_000_000,
        description="Maximum number of tokens (estimated) of a request in the protocols of other clients.",
    )

    redis_url: SecretStr | None = Field(
        None,
        description="Address of the Redis server that stores the state: `redis://`, `rediss://` or `unix://`. If "
        "neither this nor REDIS_HOST is set, the service starts its own Valkey, which serves only this machine or "
        "pod.",
    )
    redis_host: str | None = Field(None, min_length=1, description="Host of the Redis server, instead of REDIS_URL.")
    redis_port: int = Field(6379, ge=1, le=65535, description="Port on REDIS_HOST.")
    redis_password: SecretStr | None = Field(None, description="Password for REDIS_HOST.")
    state_dir: Path = Field(
        _STATE_HOME / "portside",
        description="Folder in which the service's own Valkey stores its data. Only one running service can use a "
        "folder.",
    )
    state_prefix: str = Field(
        "portside",
        pattern=r"^[A-Za-z0-9._/-]{1,128}$",
        description="First part of every key in Redis. Use a different one for each agent on a shared server.",
    )

    conversation_max_messages: int = Field(
        40,
        ge=0,
        le=1000,
        description="Maximum number of messages of a conversation that are remembered; 0 remembers none.",
    )
    conversation_max_tokens: int = Field(
        32_000,
        ge=1,
        le=1_000_000,
        description="Maximum number of tokens (estimated) of a conversation that are remembered.",
    )
    conversation_ttl_seconds: int = Field(
        86_400,
        ge=1,
        le=31_536_000,
        description="Seconds after which a conversation is forgotten if no client continues it.",
    )

    task_timeout_seconds: _Seconds = Field(
        300, gt=0, le=86_400, description="Maximum time of one attempt at a task in seconds."
    )
    task_deadline_seconds: _Seconds = Field(
        3600,
        gt=0,
        le=604_800,
        description="Seconds from its acceptance within which a task must finish, including the time that it waits.",
    )
    task_max_attempts: int = Field(
        5,
        ge=1,
        le=100,
        description="Maximum number of attempts at a task that fails with a transient error or whose worker dies.",
    )
    task_result_ttl_seconds: int = Field(
        86_400, ge=1, le=31_536_000, description="Seconds for which a finished task can be looked up."
    )
    task_queue_limit: int = Field(
        100_000, ge=1, le=10_000_000, description="Maximum number of waiting tasks. Further tasks get 503."
    )
    worker_concurrency: int = Field(
        8, ge=1, le=1000, description="Number of tasks that one worker process runs concurrently."
    )
    api_runs_tasks: bool | None = Field(
        None,
        description="Whether the API's own process runs tasks. When unset, it does if no Redis is configured; "
        "otherwise it leaves them to `agent-service worker`.",
    )

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="Lowest level that is logged.")
    log_format: Literal["json", "text"] = Field("json", description="Format of a log line.")
    log_content: bool = Field(
        default=False, description="Whether to log what users write and what the agent answers. Keys are never logged."
    )
    otel_exporter_otlp_endpoint: str | None = Field(
        None,
        description="Address to send traces to (OTLP over HTTP), such as http://collector:4318. When unset, no traces "
        "are sent.",
    )
    otel_propagators: str = Field(
        "tracecontext,baggage",
        description="Formats of the headers in which callers propagate their traces. The W3C formats are supported "
        "and others are ignored; `none` accepts no trace. Read from the environment only.",
    )
    secrets_dir: Path | None = Field(
        None,
        description="Folder with one file per secret setting. A changed key file takes effect with the next request.",
    )

    tools_file: Path | None = Field(
        None,
        description="YAML or JSON file with the agent's `tools`, in the form of the spec. When it changes, the new "
        "tools take effect with the next turn; a file with faults is logged, and the tools before it remain.",
    )
    tool_secrets_dir: Path = Field(
        Path("/var/run/portside/tool-secrets"),
        description="Folder with the Secrets that TOOLS_FILE refers to: a folder per Secret, with a file per key. A "
        "changed file takes effect with the next request.",
    )
    max_steps: int = Field(20, ge=1, le=100, description="Maximum number of calls of the model in one turn with tools.")
    max_tool_calls: int = Field(50, ge=1, le=500, description="Maximum number of tool calls in one turn.")
    approval_ttl_seconds: int = Field(
        3600, ge=1, le=604_800, description="Seconds within which a tool call that needs an approval must be decided."
    )
    approvers: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Clients that may decide on tool calls: the names of their keys (of a key without a name, the "
        "first 16 hex digits of its SHA-256), separated by commas. When empty, the client that asked decides.",
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

    @field_validator(
        "allowed_hosts",
        "cors_origins",
        "trusted_proxies",
        "gateway_models",
        "approvers",
        "usage_readers",
        mode="before",
    )
    @classmethod
    def _split(cls, value: object) -> object:
        # Early versions of this service read a JSON list; both forms are accepted.
        if not isinstance(value, str):
            return value
        return tuple(part.strip(" []\"'").rstrip("/") for part in value.split(",") if part.strip(" []\"'"))

    @field_validator("allowed_hosts")
    @classmethod
    def _host_names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(valid_host(each) for each in value)

    @field_validator("approvers", "usage_readers")
    @classmethod
    def _client_names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if not is_client_id(name):
                raise ValueError(
                    f"'{name:.80}' is not the name of a client key; of a key without a name, write the first 16 hex "
                    "digits of its SHA-256"
                )
        return value

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

    @field_validator("anthropic_base_url", "bedrock_base_url", "vertex_base_url", "foundry_base_url")
    @classmethod
    def _http_url(cls, value: str | None) -> str | None:
        # Returned unchanged: the code that uses the address logs what it removes.
        if value is not None:
            check_with_yarl(model_api_address(value)[0])
        return value

    @field_validator("identity_token_url", "aws_container_credentials_full_uri")
    @classmethod
    def _token_url(cls, value: str | None) -> str | None:
        if value is None:
            return None
        address = http_address(value)
        check_with_yarl(address)
        return address

    @field_validator("runtime_url")
    @classmethod
    def _runtime_url(cls, value: str | None) -> str | None:
        if value is None:
            return None
        address = runtime_address(value)
        check_with_yarl(address)
        return address

    @field_validator("redis_host")
    @classmethod
    def _host(cls, value: str | None) -> str | None:
        return None if value is None else host_name(value)

    @field_validator(
        "api_host",
        "default_model",
        "redis_host",
        "state_dir",
        "secrets_dir",
        "tools_file",
        "jwt_file",
        "identity_token_file",
        mode="before",
    )
    @classmethod
    def _one_line(cls, value: object) -> object:
        if isinstance(value, str) and re.search(r"[\x00-\x1f\x7f]", value):
            raise ValueError("must not contain line breaks or other control characters")
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
            client_keys(value.get_secret_value())
        return value

    @field_validator(
        "anthropic_api_key",
        "aws_access_key_id",
        "aws_secret_access_key",
        "aws_session_token",
        "aws_bearer_token_bedrock",
        "anthropic_foundry_api_key",
        mode="before",
    )
    @classmethod
    def _key(cls, value: object) -> object:
        raw = value.get_secret_value() if isinstance(value, SecretStr) else value
        return valid_key(unquoted(raw)) if isinstance(raw, str) else raw

    @field_validator("model_ids", mode="before")
    @classmethod
    def _model_ids(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        try:
            found = json.loads(value)
        except ValueError:
            found = None
        if not isinstance(found, dict) or not all(isinstance(each, str) and each for each in found.values()):
            raise ValueError('must be a JSON object with texts, such as {"claude-sonnet-4-6": "eu.anthropic.…"}')
        return found

    @field_validator("google_service_account_key")
    @classmethod
    def _google_key(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            valid_service_account_key(value.get_secret_value())
        return value

    @field_validator("secrets_dir")
    @classmethod
    def _folder(cls, value: Path | None) -> Path | None:
        if value is not None and not value.is_dir():
            raise ValueError("is not a folder; create it, or leave SECRETS_DIR unset")
        return value

    @field_validator("api_port", "redis_port", "metrics_port", "gateway_port", mode="before")
    @classmethod
    def _service_link(cls, value: object) -> object:
        if isinstance(value, str) and value.startswith("tcp://"):
            raise ValueError(
                "contains a Kubernetes service link, because the name of a Service in this namespace matches the "
                "variable; set enableServiceLinks: false on the pod"
            )
        return value

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        faults = []
        faults += provider_faults(self)
        # Browsers refuse this combination, and Starlette turns it into "any origin, with cookies".
        if "*" in self.cors_origins and self.cors_allow_credentials:
            faults.append("CORS_ALLOW_CREDENTIALS: cannot be true while CORS_ORIGINS is *; name the origins")
        if self.is_production and self.debug:
            faults.append("DEBUG: must be off in production; set DEBUG=false, or another ENVIRONMENT")
        if self.redis_url is not None and self.redis_host is not None:
            faults.append("REDIS_HOST: cannot be set together with REDIS_URL; remove one of them")
        # An explicit price of 0 counts: a model may cost nothing.
        if not self.model_fields_set & {"price_input", "price_output"}:
            costs = ("budget_cost", "client_budget_cost", "tenant_budget_cost")
            faults += [
                f"{name.upper()}: requires prices; set PRICE_INPUT and PRICE_OUTPUT"
                for name in costs
                if getattr(self, name)
            ]
        faults += self._fallback_faults()
        faults += _tools_faults(self.tools_file) + _issuers_faults(self.jwt_file)
        if faults:
            raise ValueError("\n".join(faults))
        return self

    def _fallback_faults(self) -> list[str]:
        costs = (self.budget_cost, self.client_budget_cost, self.tenant_budget_cost)
        try:
            return fallback_faults(self.fallbacks, self, needs_prices=any(costs))
        except ValueError as error:
            return [f"MODEL_FALLBACKS: {line}" for line in str(error).splitlines()]

    @cached_property
    def fallbacks(self) -> tuple[Fallback, ...]:
        """The providers to ask when that of the model does not answer, in order."""
        return () if self.model_fallbacks is None else read_fallbacks(self.model_fallbacks, self.model_provider)

    def of_fallback(self, fallback: Fallback) -> Self:
        """Return the settings with the provider of a fallback in place of the agent's."""
        return self.model_copy(update=fallback.settings(self))

    @property
    def first_byte_seconds(self) -> float:
        """The maximum time until a streamed answer begins at a provider, if there is another to ask."""
        return min(self.model_fallback_seconds, self.request_timeout_seconds / 2)

    @property
    def has_credentials(self) -> bool:
        """Whether there are credentials for the provider of the model, which needs some."""
        return missing_credential(self) is None

    @property
    def has_identity(self) -> bool:
        """Whether the credentials for the provider of the model are made from the pod's token."""
        return has_identity(self)

    @property
    def provider_in_traces(self) -> str:
        """The name of the provider by the semantic conventions for GenAI, as the SDK's clients report it."""
        return {"bedrock": "aws.bedrock", "vertex": "gcp.vertex_ai", "foundry": "anthropic"}.get(
            self.model_provider, self.model_provider
        )

    @property
    def is_production(self) -> bool:
        """Whether the environment is production, where the service shows only what users need."""
        return self.environment == "production"

    @property
    def proxies(self) -> bool:
        """Whether all paths but the service's own are passed to the runtime as they are (RUNTIME_PROTOCOL=http)."""
        return self.runtime_url is not None and self.runtime_protocol == "http"

    @property
    def shows_metrics(self) -> bool:
        """Whether `/metrics` is on the API's own port, where any client can read it."""
        return self.metrics_port is None and not self.is_production

    @property
    def takes_system_prompts(self) -> bool:
        """Whether clients may replace the agent's system prompt."""
        return not self.is_production if self.allow_system_prompt is None else self.allow_system_prompt

    @property
    def model(self) -> str:
        """The name of the model that answers, as metrics and answers report it."""
        return "echo" if self.model_provider == "echo" else self.default_model

    @property
    def lowest_level(self) -> str:
        """The lowest level that is logged, with `debug` taken into account."""
        return "DEBUG" if self.debug else self.log_level

    @property
    def redis_address(self) -> str | None:
        """The address of the configured Redis server, including the password; None if none is configured."""
        if self.redis_url is not None:
            return self.redis_url.get_secret_value()
        if self.redis_host is None:
            return None
        host = f"[{self.redis_host}]" if ":" in self.redis_host else self.redis_host
        user = f":{quote(self.redis_password.get_secret_value(), safe='')}@" if self.redis_password else ""
        return f"redis://{user}{host}:{self.redis_port}/0"

    @property
    def longest_answer_seconds(self) -> float:
        """The maximum time of an answer in seconds, streamed or not."""
        return max(self.request_timeout_seconds, self.stream_timeout_seconds)

    @property
    def runs_tasks(self) -> bool:
        """Whether the API's own process runs tasks."""
        return self.redis_address is None if self.api_runs_tasks is None else self.api_runs_tasks

    def secret_file(self, name: str) -> Path | None:
        """Return the file of the secret setting `name`; None if there is no SECRETS_DIR or another source sets it."""
        if self.secrets_dir is None or given(name):
            return None
        return self.secrets_dir / name


def _tools_faults(file: Path | None) -> list[str]:
    if file is None:
        return []
    # Not at the top of the file: an agent without tools does not spend the time.
    from agent_service.config.tools import ToolsFileError, read_tools  # noqa: PLC0415

    try:
        read_tools(file)
    except ToolsFileError as error:
        return [f"TOOLS_FILE: {line}" for line in str(error).splitlines()]
    return []


def _issuers_faults(file: Path | None) -> list[str]:
    if file is None:
        return []
    # Not at the top of the file: an agent without issuers does not spend the time.
    from agent_service.config.issuers import IssuersFileError, read_issuers  # noqa: PLC0415

    try:
        read_issuers(file)
    except IssuersFileError as error:
        return [f"JWT_FILE: {line}" for line in str(error).splitlines()]
    return []
