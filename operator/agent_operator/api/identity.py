"""Workload identity: the pods' ServiceAccount in place of a key, by each provider."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated

from pydantic import Field, StringConstraints

from agent_operator.api.base import Model
from agent_operator.api.networking import HttpAddress

AUDIENCES: Mapping[str, str] = MappingProxyType(
    {
        "anthropic": "https://api.anthropic.com",
        "bedrock": "sts.amazonaws.com",
        "foundry": "api://AzureADTokenExchange",
    }
)
"""The default audience of the token for each provider, but for those in `audience_of`."""

POD_IDENTITY_AUDIENCE = "pods.eks.amazonaws.com"
POD_IDENTITY_ADDRESS = "169.254.170.23"
"""The address of the EKS Pod Identity Agent on each node (AWS: "EKS Pod Identity")."""

DEFAULT_LIFETIME_SECONDS = 3600

_Id = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?$", max_length=128)]


class AnthropicIdentity(Model):
    """Workload identity federation of Anthropic."""

    federation_rule_id: _Id
    """ID of the federation rule that trusts the token (`fdrl_…`)."""
    organization_id: _Id
    """ID of the organization."""
    service_account_id: _Id | None = None
    """ID of the service account (`svac_…`), if the rule allows several."""
    workspace_id: _Id | None = None
    """ID of the workspace (`wrkspc_…`), if the rule allows several."""


class AwsIdentity(Model):
    """A role of AWS."""

    role_arn: (
        Annotated[str, StringConstraints(pattern=r"^arn:aws[a-z-]*:iam::[0-9]{12}:role/[!-~]+$", max_length=2048)]
        | None
    ) = None
    """ARN of the role that trusts the token. If unset, the role is the one that EKS Pod Identity associates with the
    ServiceAccount."""


class GoogleIdentity(Model):
    """Workload identity federation of Google Cloud."""

    provider: Annotated[
        str,
        StringConstraints(
            pattern=r"^projects/[0-9]+/locations/global/workloadIdentityPools/[a-z0-9-]+/providers/[a-z0-9-]+$",
            max_length=256,
        ),
    ]
    """Provider that trusts the token: `projects/NUMBER/locations/global/workloadIdentityPools/POOL/providers/NAME`."""
    service_account: Annotated[str, StringConstraints(pattern=r"^[a-z0-9.-]+@[a-z0-9.-]+$", max_length=256)] | None = (
        None
    )
    """Email address of a service account to impersonate. If unset, the ServiceAccount itself has the permissions."""


class EntraIdentity(Model):
    """A federated credential of Microsoft Entra."""

    tenant_id: _Id
    """ID of the tenant."""
    client_id: _Id
    """Client ID of the application or managed identity that trusts the token."""


class WorkloadIdentity(Model):
    """A token of the pods' ServiceAccount, which is exchanged for a credential that lives for an hour or less. It
    needs the block of the agent's provider."""

    audience: Annotated[str, StringConstraints(pattern=r"^[!-~]+$", max_length=512)] | None = None
    """Audience of the token. Defaults to the one that the provider expects."""
    token_lifetime_seconds: Annotated[int, Field(ge=600, le=86_400)] | None = None
    """Lifetime of the token. The kubelet replaces it before. Defaults to 3600."""
    token_url: HttpAddress | None = None
    """Address of the service that exchanges the token, for a private endpoint or a proxy. Defaults to the provider's
    own."""
    anthropic: AnthropicIdentity | None = None
    bedrock: AwsIdentity | None = None
    vertex: GoogleIdentity | None = None
    foundry: EntraIdentity | None = None


PROVIDERS = ("anthropic", "bedrock", "vertex", "foundry")
"""The providers that take a workload identity. Each has the field of its name."""


def audience_of(provider: str, identity: WorkloadIdentity) -> str:
    """Return the audience of the token for a provider whose block is there."""
    if identity.audience is not None:
        return identity.audience
    if provider == "vertex" and identity.vertex is not None:
        return f"https://iam.googleapis.com/{identity.vertex.provider}"
    if uses_pod_identity(provider, identity):
        return POD_IDENTITY_AUDIENCE
    return AUDIENCES[provider]


def uses_pod_identity(provider: str, identity: WorkloadIdentity) -> bool:
    """Return whether the role is the one of EKS Pod Identity."""
    return provider == "bedrock" and identity.bedrock is not None and identity.bedrock.role_arn is None
