"""Creates the endpoint of the model from the settings."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog
from pydantic import SecretStr

from agent_service.agent.claude.anthropic_api import ADDRESS, AnthropicApi
from agent_service.agent.claude.credentials import ApiKey, ApiKeys, Credentials, Source, Token
from agent_service.agent.claude.endpoint import AnyEndpoint
from agent_service.agent.claude.renewal import Observe, Renewed
from agent_service.agent.foundry.endpoint import Foundry
from agent_service.agent.foundry.federation import EntraIdentity
from agent_service.agent.identity.exchange import exchanged
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

if TYPE_CHECKING:
    from agent_service.agent.bedrock.keys import AwsKeys

_log = structlog.get_logger(__name__)

# AWS, "AssumeRoleWithWebIdentity".
_LONGEST_SESSION_NAME = 64


@dataclass(frozen=True, slots=True)
class Reports:
    """What is called with the state of the credentials.

    `refused` is called with whether those in use are refused, and `exchanged` with the result of each exchange.
    """

    refused: Callable[[bool], None]
    exchanged: Observe


def make_endpoint(settings: Settings, reports: Reports) -> AnyEndpoint:
    """Return the endpoint of the configured provider, which is not `echo` and has credentials."""
    make = {"bedrock": _bedrock, "vertex": _vertex, "foundry": _foundry}.get(settings.model_provider, _anthropic)
    return make(settings, reports)


def _anthropic(settings: Settings, reports: Reports) -> AnyEndpoint:
    address, left_out = model_api_address(settings.anthropic_base_url or ADDRESS)
    if left_out:
        _log.warning("Base URL ended with a path of the API, removed the path", left_out=left_out)
    source: Source[ApiKey | Token]
    source = _federated(settings, address, reports) if settings.has_identity else _key(settings, API_KEY_NAME)
    return AnthropicApi(Credentials(source, reports.refused), address, by_token=settings.has_identity)


def _federated(settings: Settings, address: str, reports: Reports) -> Renewed[Token]:
    from agent_service.agent.identity.anthropic import AnthropicIdentity  # noqa: PLC0415

    identity = AnthropicIdentity(
        _given(settings.anthropic_federation_rule_id),
        _given(settings.anthropic_organization_id),
        settings.anthropic_service_account_id,
        settings.anthropic_workspace_id,
        settings.identity_token_url or address,
    )
    return exchanged(_token_file(settings), identity, identity.exchange, reports.exchanged)


def _bedrock(settings: Settings, reports: Reports) -> AnyEndpoint:
    # Not at the top of the file: botocore takes time and memory that other agents do not spend.
    from agent_service.agent.bedrock.endpoint import Bedrock  # noqa: PLC0415
    from agent_service.agent.bedrock.messages import BedrockMessages  # noqa: PLC0415

    credentials = Credentials(_aws_source(settings, reports), reports.refused)
    region = _given(settings.bedrock_region)
    place: dict[str, Any] = {"region": region, "address": settings.bedrock_base_url, "model_ids": settings.model_ids}
    if settings.bedrock_api == "messages":
        signs = settings.has_identity or settings.aws_bearer_token_bedrock is None
        return BedrockMessages(credentials, signs=signs, **place)
    return Bedrock(credentials, **place)


def _aws_source(settings: Settings, reports: Reports) -> "Source[AwsKeys | ApiKey]":
    from agent_service.agent.bedrock.keys import AwsKeyFiles, AwsKeys  # noqa: PLC0415

    if settings.has_identity:
        return _aws_identity(settings, reports)
    if settings.aws_bearer_token_bedrock is not None:
        return _key(settings, BEDROCK_KEY_NAME)
    access_key, secret_key = (_value(settings, name) for name in AWS_KEYS)
    token = settings.aws_session_token
    keys = AwsKeys(access_key, secret_key, None if token is None else token.get_secret_value())
    names = (*AWS_KEYS, AWS_SESSION_TOKEN_NAME)
    # Another source sets all of them or none: a pair of keys belongs together.
    in_files = all(settings.secret_file(name) is not None for name in names)
    return AwsKeyFiles(keys, settings.secrets_dir if in_files else None)


def _aws_identity(settings: Settings, reports: Reports) -> "Renewed[AwsKeys]":
    from agent_service.agent.bedrock.web_identity import PodIdentity, WebIdentity  # noqa: PLC0415

    if settings.aws_role_arn is None:
        association = PodIdentity(_given(settings.aws_container_credentials_full_uri))
        return exchanged(_token_file(settings), association, association.exchange, reports.exchanged)
    role = WebIdentity(
        settings.aws_role_arn,
        # As long as AWS takes it. CloudTrail shows it.
        f"portside-{settings.agent_name}"[:_LONGEST_SESSION_NAME],
        settings.identity_token_url or f"https://sts.{settings.bedrock_region}.amazonaws.com",
    )
    return exchanged(_token_file(settings), role, role.exchange, reports.exchanged)


def _vertex(settings: Settings, reports: Reports) -> AnyEndpoint:
    # Not at the top of the file: google-auth takes time and memory that other agents do not spend.
    from agent_service.agent.vertex.endpoint import Vertex  # noqa: PLC0415
    from agent_service.agent.vertex.federation import GoogleIdentity  # noqa: PLC0415
    from agent_service.agent.vertex.service_account import service_account_tokens  # noqa: PLC0415

    if settings.has_identity:
        provider = _given(settings.google_identity_provider)
        identity = GoogleIdentity(provider, settings.google_service_account, settings.identity_token_url)
        tokens = exchanged(_token_file(settings), identity, identity.exchange, reports.exchanged)
    else:
        file = settings.secret_file(GOOGLE_KEY_NAME)
        tokens = service_account_tokens(_value(settings, GOOGLE_KEY_NAME), file, reports.exchanged)
    return Vertex(
        Credentials(tokens, reports.refused),
        project=_given(settings.vertex_project),
        region=_given(settings.vertex_region),
        address=settings.vertex_base_url,
        model_ids=settings.model_ids,
    )


def _foundry(settings: Settings, reports: Reports) -> AnyEndpoint:
    source: Source[ApiKey | Token]
    if settings.has_identity:
        identity = EntraIdentity(
            _given(settings.azure_tenant_id), _given(settings.azure_client_id), settings.identity_token_url
        )
        source = exchanged(_token_file(settings), identity, identity.exchange, reports.exchanged)
    else:
        source = _key(settings, FOUNDRY_KEY_NAME)
    return Foundry(
        Credentials(source, reports.refused),
        resource=settings.foundry_resource,
        by_token=settings.has_identity,
        address=settings.foundry_base_url,
        model_ids=settings.model_ids,
    )


def _token_file(settings: Settings) -> Path:
    if settings.identity_token_file is None:
        raise ValueError("The setting IDENTITY_TOKEN_FILE is missing.")
    return settings.identity_token_file


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
