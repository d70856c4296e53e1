"""Creates the endpoint of the model from the settings."""

from collections.abc import Callable
from typing import Any

import structlog
from pydantic import SecretStr

from agent_service.agent.claude.anthropic_api import ADDRESS, AnthropicApi
from agent_service.agent.claude.credentials import ApiKey, ApiKeys, Credentials, Source
from agent_service.agent.claude.endpoint import AnyEndpoint
from agent_service.agent.foundry.endpoint import Foundry
from agent_service.config.providers import (
    API_KEY_NAME,
    AWS_KEYS,
    AWS_SESSION_TOKEN_NAME,
    BEDROCK_KEY_NAME,
    FOUNDRY_KEY_NAME,
    GOOGLE_KEY_NAME,
)
from agent_service.config.settings import Settings
from agent_service.network.addresses import model_api_address

_log = structlog.get_logger(__name__)

ReportRefused = Callable[[bool], None]


def make_endpoint(settings: Settings, report_refused: ReportRefused) -> AnyEndpoint:
    """Return the endpoint of the configured provider, which is not `echo` and has credentials.

    `report_refused` is called with whether the credentials in use are refused.
    """
    make = {"bedrock": _bedrock, "vertex": _vertex, "foundry": _foundry}.get(settings.model_provider, _anthropic)
    return make(settings, report_refused)


def _anthropic(settings: Settings, report_refused: ReportRefused) -> AnyEndpoint:
    address, left_out = model_api_address(settings.anthropic_base_url or ADDRESS)
    if left_out:
        _log.warning("Base URL ended with a path of the API, removed the path", left_out=left_out)
    return AnthropicApi(Credentials(_key(settings, API_KEY_NAME), report_refused), address)


def _bedrock(settings: Settings, report_refused: ReportRefused) -> AnyEndpoint:
    # Not at the top of the file: botocore takes time and memory that other agents do not spend.
    from agent_service.agent.bedrock.endpoint import Bedrock  # noqa: PLC0415
    from agent_service.agent.bedrock.keys import AwsKeyFiles, AwsKeys  # noqa: PLC0415
    from agent_service.agent.bedrock.messages import BedrockMessages  # noqa: PLC0415

    source: Source[AwsKeys | ApiKey]
    if settings.aws_bearer_token_bedrock is not None:
        source = _key(settings, BEDROCK_KEY_NAME)
    else:
        access_key, secret_key = (_value(settings, name) for name in AWS_KEYS)
        token = settings.aws_session_token
        keys = AwsKeys(access_key, secret_key, None if token is None else token.get_secret_value())
        names = (*AWS_KEYS, AWS_SESSION_TOKEN_NAME)
        # Another source sets all of them or none: a pair of keys belongs together.
        in_files = all(settings.secret_file(name) is not None for name in names)
        source = AwsKeyFiles(keys, settings.secrets_dir if in_files else None)
    credentials: Credentials[AwsKeys | ApiKey] = Credentials(source, report_refused)
    region = _given(settings.bedrock_region)
    place: dict[str, Any] = {"region": region, "address": settings.bedrock_base_url, "model_ids": settings.model_ids}
    if settings.bedrock_api == "messages":
        return BedrockMessages(credentials, signs=settings.aws_bearer_token_bedrock is None, **place)
    return Bedrock(credentials, **place)


def _vertex(settings: Settings, report_refused: ReportRefused) -> AnyEndpoint:
    # Not at the top of the file: google-auth takes time and memory that other agents do not spend.
    from agent_service.agent.vertex.endpoint import Vertex  # noqa: PLC0415
    from agent_service.agent.vertex.service_account import service_account_tokens  # noqa: PLC0415

    tokens = service_account_tokens(_value(settings, GOOGLE_KEY_NAME), settings.secret_file(GOOGLE_KEY_NAME))
    return Vertex(
        Credentials(tokens, report_refused),
        project=_given(settings.vertex_project),
        region=_given(settings.vertex_region),
        address=settings.vertex_base_url,
        model_ids=settings.model_ids,
    )


def _foundry(settings: Settings, report_refused: ReportRefused) -> AnyEndpoint:
    return Foundry(
        Credentials(_key(settings, FOUNDRY_KEY_NAME), report_refused),
        resource=settings.foundry_resource,
        address=settings.foundry_base_url,
        model_ids=settings.model_ids,
    )


def _key(settings: Settings, name: str) -> ApiKeys:
    return ApiKeys(_value(settings, name), settings.secret_file(name))


def _value(settings: Settings, name: str) -> str:
    secret: SecretStr | None = getattr(settings, name.lower())
    if secret is None:
        raise ValueError(f"The setting {name} is missing.")
    return secret.get_secret_value()


def _given(value: str | None) -> str:
    """Return a setting that the settings themselves require."""
    if value is None:
        raise ValueError("A setting of the provider is missing.")
    return value
