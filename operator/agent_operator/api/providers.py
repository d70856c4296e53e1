"""The providers of models in clouds: where each is, how it names the models, and the credentials for it."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from agent_operator.api.base import Model
from agent_operator.api.core_v1 import ObjectName, keys_of_form
from agent_operator.api.identity import PROVIDERS, WorkloadIdentity
from agent_operator.api.kubernetes.part import ATOMIC
from agent_operator.api.networking import HttpAddress
from agent_operator.api.rules import Rule

SECRET_KEYS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "bedrock": ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
        "vertex": ("GOOGLE_SERVICE_ACCOUNT_KEY",),
        "foundry": ("ANTHROPIC_FOUNDRY_API_KEY",),
    }
)
"""The keys that the Secret of each provider in a cloud must have, which are the names of the service's settings."""

OPTIONAL_SECRET_KEYS: Mapping[str, tuple[str, ...]] = MappingProxyType({"bedrock": ("AWS_SESSION_TOKEN",)})
"""The keys that it may have."""

# Characters that JSON writes as they are, so that the chart and the operator write the same text.
_MODEL = r"^[A-Za-z0-9]([A-Za-z0-9._:@/-]*[A-Za-z0-9])?$"
_ModelId = Annotated[str, StringConstraints(pattern=_MODEL, min_length=1, max_length=512)]
_Location = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$", min_length=1, max_length=63)]
ModelIds = Annotated[
    dict[str, _ModelId],
    # `model`, and as many as `models` has.
    Field(max_length=33),
    keys_of_form(_MODEL, "each key of modelIds must be the name of a model: letters, digits and '._:@/-'"),
]


class Bedrock(Model):
    """Amazon Bedrock, for the provider `bedrock`."""

    region: _Location
    """AWS region, such as `eu-central-1`."""
    api: Literal["invoke", "messages"] | None = None
    """API that is called: `invoke` is InvokeModel of Bedrock Runtime, which takes inference profiles; `messages` is the
    Messages API of Claude in Amazon Bedrock, which newer models have. Defaults to `invoke`."""
    base_url: HttpAddress | None = None
    """Address of Bedrock, for a VPC endpoint or a proxy. Defaults to the address of the region."""
    model_ids: ModelIds | None = None
    """IDs of models or inference profiles, by the names in `model` and `models`. Without one, a model has its name."""


class Vertex(Model):
    """Google Vertex AI, for the provider `vertex`."""

    project: Annotated[
        str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9.:-]*[a-z0-9])?$", min_length=1, max_length=63)
    ]
    """ID of the Google Cloud project."""
    region: _Location
    """Location: a region such as `europe-west1`, a multi-region (`eu`, `us`), or `global`."""
    base_url: HttpAddress | None = None
    """Address of Vertex AI, for a private endpoint or a proxy. Defaults to the address of the location."""
    model_ids: ModelIds | None = None
    """IDs at Vertex AI, by the names in `model` and `models`. Without one, a model has its name."""


class Foundry(Model):
    """Microsoft Foundry, for the provider `foundry`."""

    rules = (
        Rule(
            cel="has(self.resource) != has(self.baseUrl)",
            message="agent.foundry needs the resource or its address: set agent.foundry.resource or "
            "agent.foundry.baseUrl, and not both",
            holds=lambda foundry: (foundry.resource is None) != (foundry.base_url is None),
        ),
    )

    resource: _Location | None = None
    """Name of the Foundry resource."""
    base_url: HttpAddress | None = None
    """Address of the resource, in place of its name, for a private endpoint or a proxy. It ends with `/anthropic`."""
    model_ids: ModelIds | None = None
    """Deployments, by the names in `model` and `models`. Without one, a model has its name."""


class ProviderCredentials(Model):
    """Credentials for the provider: a Secret for one in a cloud, or no key at all."""

    rules = (
        Rule(
            cel="has(self.secretName) != has(self.workloadIdentity)",
            message="set agent.credentials.secretName or agent.credentials.workloadIdentity, and not both",
            holds=lambda given: (given.secret_name is None) != (given.workload_identity is None),
        ),
    )

    secret_name: ObjectName | None = None
    """Name of a Secret in the same namespace that contains the credentials, under the names of the service's
    settings: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and for temporary keys AWS_SESSION_TOKEN (`bedrock`),
    GOOGLE_SERVICE_ACCOUNT_KEY (`vertex`), ANTHROPIC_FOUNDRY_API_KEY (`foundry`). Changes to the Secret take effect
    without a restart."""
    workload_identity: WorkloadIdentity | None = None


def identity_of(agent: Any) -> WorkloadIdentity | None:
    """Return the workload identity for the agent's provider; None if it has none, or needs none."""
    if agent.credentials is None or agent.provider not in PROVIDERS:
        return None
    found: WorkloadIdentity | None = agent.credentials.workload_identity
    return found


class FallbackCredentials(Model):
    """Credentials of a fallback."""

    secret_name: ObjectName
    """Name of a Secret with the keys of `agent.credentials`, or ANTHROPIC_API_KEY (`anthropic`)."""


class Fallback(Model):
    """A provider that is asked when those before it do not answer."""

    rules = (
        Rule(
            cel="(self.provider == 'bedrock') == has(self.bedrock) && (self.provider == 'vertex') == has(self.vertex) "
            "&& (self.provider == 'foundry') == has(self.foundry)",
            message="a fallback has the block of its provider and of no other: set or remove bedrock, vertex or "
            "foundry in agent.fallbacks",
            holds=lambda fallback: all(
                (fallback.provider == name) == (getattr(fallback, name) is not None) for name in SECRET_KEYS
            ),
        ),
    )

    provider: Literal["anthropic", "bedrock", "vertex", "foundry"]
    """Its provider."""
    model: Annotated[str, StringConstraints(pattern=_MODEL, min_length=1, max_length=128)] | None = None
    """Model that answers in place of `agent.model`. Defaults to the same."""
    bedrock: Bedrock | None = None
    vertex: Vertex | None = None
    foundry: Foundry | None = None
    credentials: FallbackCredentials | None = None


Fallbacks = Annotated[list[Fallback], Field(max_length=4, json_schema_extra=ATOMIC)]


def place(agent: Any) -> Bedrock | Vertex | Foundry | None:
    """Return the block of the provider of an agent or a fallback; None for one in no cloud, or without its block."""
    found: Bedrock | Vertex | Foundry | None = getattr(agent, agent.provider) if agent.provider in SECRET_KEYS else None
    return found


def _has_its_block(name: str) -> Rule:
    return Rule(
        cel=f"self.provider != '{name}' || has(self.{name})",
        message=f"provider {name} needs to know where it is: set agent.{name}",
        holds=lambda agent: agent.provider != name or getattr(agent, name) is not None,
        field=name,
    )


_IDENTITY = "self.credentials.workloadIdentity"

AGENT_RULES = (
    *map(_has_its_block, SECRET_KEYS),
    Rule(
        cel=f"!has(self.credentials) || !has({_IDENTITY}) || self.provider == 'echo' || "
        + " || ".join(f"(self.provider == '{name}' && has({_IDENTITY}.{name}))" for name in PROVIDERS),
        message="agent.credentials.workloadIdentity needs to know who trusts the token: set the block of "
        "agent.provider in it",
        holds=lambda agent: (found := identity_of(agent)) is None or getattr(found, agent.provider) is not None,
        field="credentials",
    ),
    Rule(
        cel="self.provider != 'echo' || !has(self.fallbacks)",
        message="provider echo always answers: remove agent.fallbacks",
        holds=lambda agent: agent.provider != "echo" or agent.fallbacks is None,
        field="fallbacks",
    ),
    Rule(
        cel="!has(self.fallbacks) || self.fallbacks.all(a, self.fallbacks.exists_one(b, a == b))",
        message="two entries of agent.fallbacks are the same: remove one of them",
        holds=lambda agent: all(agent.fallbacks.count(each) == 1 for each in agent.fallbacks or []),
        field="fallbacks",
    ),
)
"""Rules of an agent about its providers."""


def has_access_of_its_own(spec: Any) -> bool:
    """Return whether the model may be called without credentials in the spec: by a runtime, which may have its own.

    Fallbacks stand in for calls of the gateway, which needs credentials.
    """
    return spec.runtime is not None and spec.agent.fallbacks is None


def _has_credentials(spec: Any, fallback: Fallback) -> bool:
    if fallback.credentials is not None:
        return True
    if fallback.provider == spec.agent.provider and identity_of(spec.agent) is not None:
        return True
    if fallback.provider == "anthropic":
        return spec.api_key.secret_name is not None or spec.api_key.value is not None
    return bool(fallback.provider == spec.agent.provider and spec.agent.credentials is not None)


SPEC_RULES = (
    Rule(
        cel="!(self.agent.provider in ['bedrock', 'vertex', 'foundry']) "
        "|| (has(self.runtime) && !has(self.agent.fallbacks)) || has(self.agent.credentials)",
        message="a provider in a cloud needs credentials: set agent.credentials.secretName to a Secret that "
        "contains them, or agent.credentials.workloadIdentity",
        holds=lambda spec: (
            spec.agent.provider not in SECRET_KEYS or has_access_of_its_own(spec) or spec.agent.credentials is not None
        ),
        field="agent",
        unless="className",
    ),
    Rule(
        cel="!has(self.agent.fallbacks) || self.agent.fallbacks.all(f, has(f.credentials) "
        "|| (f.provider == self.agent.provider && has(self.agent.credentials) "
        "&& (f.provider != 'anthropic' || has(self.agent.credentials.workloadIdentity))) "
        "|| (f.provider == 'anthropic' && (has(self.apiKey.secretName) || has(self.apiKey.value))))",
        message="a fallback needs credentials: set credentials.secretName in agent.fallbacks, or apiKey for the "
        "provider anthropic",
        holds=lambda spec: all(_has_credentials(spec, each) for each in spec.agent.fallbacks or []),
        field="agent",
        unless="className",
    ),
)
"""Rules of a whole spec whose provider is in a cloud."""
