"""The projected volume with the agent's secrets, which the service watches."""

from collections.abc import Iterable

from agent_operator.api.agent import AgentDeployment
from agent_operator.api.providers import OPTIONAL_SECRET_KEYS, SECRET_KEYS
from agent_operator.api.spec import SECRET_KEY
from agent_operator.manifests.client_keys import KEYS, client_keys_name
from agent_operator.manifests.document import Document
from agent_operator.manifests.fallbacks import secrets_folder
from agent_operator.manifests.jwt_file import JWT_KEY, jwt_name
from agent_operator.manifests.provider import identity_source

REDIS_URL = "REDIS_URL"
SYSTEM_PROMPT = "SYSTEM_PROMPT"


def secret_sources(agent: AgentDeployment) -> list[Document]:
    """Return the sources of the volume (core/v1, ProjectedVolumeSource): each setting is a file with its name.

    The service reloads a changed file, so that changes by the user take effect without a restart.
    """
    sources: list[Document] = []
    if agent.spec.api_key.value is not None:
        sources.append(_source("secret", agent.name, SECRET_KEY, SECRET_KEY))
    elif agent.spec.api_key.secret_name is not None:
        sources.append(_source("secret", agent.spec.api_key.secret_name, agent.spec.api_key.secret_key, SECRET_KEY))
    sources += _of_providers(agent)
    if agent.spec.auth.enabled and agent.spec.auth.existing_secret is not None:
        sources.append(_source("secret", agent.spec.auth.existing_secret, agent.spec.auth.secret_key, KEYS))
    elif agent.spec.auth.enabled:
        sources.append(_source("secret", client_keys_name(agent.name), KEYS, KEYS))
    if agent.spec.auth.jwt is not None:
        sources.append(_source("configMap", jwt_name(agent.name), JWT_KEY, JWT_KEY))
    if agent.spec.redis.secret_name is not None:
        sources.append(_source("secret", agent.spec.redis.secret_name, agent.spec.redis.secret_key, REDIS_URL))
    if agent.spec.agent.system_prompt_from is not None:
        reference = agent.spec.agent.system_prompt_from.config_map_key_ref
        sources.append(_source("configMap", reference.name, reference.key, SYSTEM_PROMPT))
    return sources


def _of_providers(agent: AgentDeployment) -> list[Document]:
    """Return the sources of the credentials for the agent's provider, keys or a token, and for its fallbacks."""
    token = identity_source(agent.spec.agent)
    sources = [] if token is None else [token]
    credentials, provider = agent.spec.agent.credentials, agent.spec.agent.provider
    if credentials is not None and credentials.secret_name is not None and provider in SECRET_KEYS:
        sources += _of_provider(provider, credentials.secret_name, "")
    for index, fallback in enumerate(agent.spec.agent.fallbacks or []):
        if fallback.credentials is not None:
            sources += _of_provider(fallback.provider, fallback.credentials.secret_name, f"{secrets_folder(index)}/")
    return sources


def _of_provider(provider: str, secret: str, folder: str) -> list[Document]:
    needed = {"name": secret, "items": _items(SECRET_KEYS.get(provider, (SECRET_KEY,)), folder)}
    sources: list[Document] = [{"secret": needed}]
    if provider in OPTIONAL_SECRET_KEYS:
        further = _items(OPTIONAL_SECRET_KEYS[provider], folder)
        sources.append({"secret": {"name": secret, "items": further, "optional": True}})
    return sources


def _items(names: Iterable[str], folder: str) -> list[Document]:
    return [{"key": name, "path": f"{folder}{name}"} for name in names]


def _source(kind: str, name: str, key: str, path: str) -> Document:
    return {kind: {"name": name, "items": [{"key": key, "path": path}]}}
