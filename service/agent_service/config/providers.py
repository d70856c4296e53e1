"""What each provider of models needs among the settings."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, Protocol

Provider = Literal["anthropic", "bedrock", "vertex", "foundry", "echo"]

API_KEY_NAME = "ANTHROPIC_API_KEY"
AWS_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
AWS_SESSION_TOKEN_NAME = "AWS_SESSION_TOKEN"  # noqa: S105  the name of a setting, not its value
BEDROCK_KEY_NAME = "AWS_BEARER_TOKEN_BEDROCK"
GOOGLE_KEY_NAME = "GOOGLE_SERVICE_ACCOUNT_KEY"
FOUNDRY_KEY_NAME = "ANTHROPIC_FOUNDRY_API_KEY"

SECRET_NAMES = frozenset(
    {API_KEY_NAME, *AWS_KEYS, AWS_SESSION_TOKEN_NAME, BEDROCK_KEY_NAME, GOOGLE_KEY_NAME, FOUNDRY_KEY_NAME}
)
"""Settings of providers that are secrets."""

SECRETS_OF: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "anthropic": (API_KEY_NAME,),
        "bedrock": (*AWS_KEYS, AWS_SESSION_TOKEN_NAME, BEDROCK_KEY_NAME),
        "vertex": (GOOGLE_KEY_NAME,),
        "foundry": (FOUNDRY_KEY_NAME,),
    }
)
"""The secrets of each provider."""

# The settings that say where a provider is.
_PLACES = {"bedrock": ("BEDROCK_REGION",), "vertex": ("VERTEX_PROJECT", "VERTEX_REGION")}

# The first names of a provider are those that a message proposes.
_CREDENTIALS: dict[Provider, tuple[tuple[str, ...], ...]] = {
    "anthropic": ((API_KEY_NAME,),),
    "bedrock": (AWS_KEYS, (BEDROCK_KEY_NAME,)),
    "vertex": ((GOOGLE_KEY_NAME,),),
    "foundry": ((FOUNDRY_KEY_NAME,),),
    "echo": ((),),
}


# What is needed beside the pod's token, in the same form.
_IDENTITIES: dict[Provider, tuple[tuple[str, ...], ...]] = {
    "anthropic": (("ANTHROPIC_FEDERATION_RULE_ID", "ANTHROPIC_ORGANIZATION_ID"),),
    "bedrock": (("AWS_ROLE_ARN",), ("AWS_CONTAINER_CREDENTIALS_FULL_URI",)),
    "vertex": (("GOOGLE_IDENTITY_PROVIDER",),),
    "foundry": (("AZURE_TENANT_ID", "AZURE_CLIENT_ID"),),
}
_IDENTITY_TOKEN_FILE = "IDENTITY_TOKEN_FILE"  # noqa: S105  the name of a setting


class ProviderSettings(Protocol):
    """The settings, as far as this module reads them by attribute."""

    @property
    def model_provider(self) -> Provider:
        """Provider of the model."""

    @property
    def runtime_url(self) -> str | None:
        """Address of the runtime, if there is one."""


def has_identity(settings: ProviderSettings) -> bool:
    """Return whether the pod's token is exchanged for the credential, which takes precedence over keys."""
    return settings.model_provider in _IDENTITIES and _is_set(settings, _IDENTITY_TOKEN_FILE)


def missing_credential(settings: ProviderSettings) -> str | None:
    """Return the name of the first setting that the credential for the provider lacks; None if it is complete."""
    alternatives = (_IDENTITIES if has_identity(settings) else _CREDENTIALS)[settings.model_provider]
    if any(all(_is_set(settings, name) for name in names) for names in alternatives):
        return None
    return next(name for name in alternatives[0] if not _is_set(settings, name))


def provider_faults(settings: ProviderSettings) -> list[str]:
    """Return what the provider of the model lacks, one line for each fault."""
    provider = settings.model_provider
    missing = missing_credential(settings)
    # A runtime may have access of its own to a model.
    if missing is not None and settings.runtime_url is not None and not has_identity(settings):
        return []
    faults = []
    if missing is not None and has_identity(settings):
        faults.append(f"{missing}: is not set; {_IDENTITY_TOKEN_FILE} needs it with MODEL_PROVIDER={provider}")
    elif missing is not None:
        faults.append(
            f"{missing}: is not set; set it, put the key into a file of that name in SECRETS_DIR, "
            "or set MODEL_PROVIDER=echo to run with no model"
        )
    faults += [
        f"{name}: is not set; MODEL_PROVIDER={provider} needs it"
        for name in _PLACES.get(provider, ())
        if not _is_set(settings, name)
    ]
    if provider == "foundry" and _is_set(settings, "FOUNDRY_RESOURCE") == _is_set(settings, "FOUNDRY_BASE_URL"):
        faults.append("FOUNDRY_RESOURCE: MODEL_PROVIDER=foundry needs it, or FOUNDRY_BASE_URL; set exactly one")
    return faults


def _is_set(settings: ProviderSettings, name: str) -> bool:
    return getattr(settings, name.lower()) is not None
