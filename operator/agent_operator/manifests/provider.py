"""The settings of the agent's provider in a cloud."""

import json

from agent_operator.api.identity import (
    DEFAULT_LIFETIME_SECONDS,
    POD_IDENTITY_ADDRESS,
    WorkloadIdentity,
    audience_of,
    uses_pod_identity,
)
from agent_operator.api.providers import Bedrock, Foundry, Vertex, identity_of, place
from agent_operator.api.spec import Agent
from agent_operator.manifests.document import Document
from agent_operator.manifests.names import SECRETS_DIR

# The file of the token, among those of the secrets, which are mounted into the agent's container alone.
_TOKEN_FILE = "identity-token"  # noqa: S105  a name


def provider_settings(agent: Agent) -> dict[str, str | None]:
    """Return the settings of the block of the provider; none if it is in no cloud."""
    found = place(agent)
    if found is None:
        return {}
    settings: dict[str, str | None] = {}
    if isinstance(found, Bedrock):
        settings = {
            "BEDROCK_REGION": found.region,
            "BEDROCK_API": found.api,
            "BEDROCK_BASE_URL": found.base_url,
        }
    elif isinstance(found, Vertex):
        settings = {
            "VERTEX_PROJECT": found.project,
            "VERTEX_REGION": found.region,
            "VERTEX_BASE_URL": found.base_url,
        }
    elif isinstance(found, Foundry):
        settings = {"FOUNDRY_RESOURCE": found.resource, "FOUNDRY_BASE_URL": found.base_url}
    ids = json.dumps(found.model_ids, sort_keys=True, separators=(",", ":")) if found.model_ids else None
    return {**settings, "MODEL_IDS": ids}


def identity_source(agent: Agent) -> Document | None:
    """Return the token among the sources of the volume of secrets; None without a workload identity."""
    identity = identity_of(agent)
    if identity is None:
        return None
    return {
        "serviceAccountToken": {
            "audience": audience_of(agent.provider, identity),
            "expirationSeconds": identity.token_lifetime_seconds or DEFAULT_LIFETIME_SECONDS,
            "path": _TOKEN_FILE,
        }
    }


def identity_settings(agent: Agent) -> dict[str, str | None]:
    """Return the settings of the exchange; none without a workload identity."""
    identity = identity_of(agent)
    if identity is None:
        return {}
    settings = {"IDENTITY_TOKEN_FILE": f"{SECRETS_DIR}/{_TOKEN_FILE}"}
    if uses_pod_identity(agent.provider, identity):
        address = identity.token_url or f"http://{POD_IDENTITY_ADDRESS}/v1/credentials"
        return {**settings, "AWS_CONTAINER_CREDENTIALS_FULL_URI": address}
    return {**settings, "IDENTITY_TOKEN_URL": identity.token_url, **_of_provider(agent.provider, identity)}


def _of_provider(provider: str, identity: WorkloadIdentity) -> dict[str, str | None]:
    if provider == "anthropic" and identity.anthropic is not None:
        return {
            "ANTHROPIC_FEDERATION_RULE_ID": identity.anthropic.federation_rule_id,
            "ANTHROPIC_ORGANIZATION_ID": identity.anthropic.organization_id,
            "ANTHROPIC_SERVICE_ACCOUNT_ID": identity.anthropic.service_account_id,
            "ANTHROPIC_WORKSPACE_ID": identity.anthropic.workspace_id,
        }
    if provider == "vertex" and identity.vertex is not None:
        return {
            "GOOGLE_IDENTITY_PROVIDER": identity.vertex.provider,
            "GOOGLE_SERVICE_ACCOUNT": identity.vertex.service_account,
        }
    if provider == "foundry" and identity.foundry is not None:
        return {"AZURE_TENANT_ID": identity.foundry.tenant_id, "AZURE_CLIENT_ID": identity.foundry.client_id}
    return {} if identity.bedrock is None else {"AWS_ROLE_ARN": identity.bedrock.role_arn}
