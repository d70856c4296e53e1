"""The projected volume with the agent's secrets, which the service watches."""

from agent_operator.api.spec import SECRET_KEY, AgentSpec
from agent_operator.manifests.client_keys import KEYS, client_keys_name
from agent_operator.manifests.document import Document

REDIS_URL = "REDIS_URL"
SYSTEM_PROMPT = "SYSTEM_PROMPT"


def secret_sources(name: str, spec: AgentSpec) -> list[Document]:
    """Return the sources of the volume (core/v1, ProjectedVolumeSource): each setting is a file with its name.

    The service reloads a changed file, so that changes by the user take effect without a restart.
    """
    sources: list[Document] = []
    if spec.api_key.value is not None:
        sources.append(_source("secret", name, SECRET_KEY, SECRET_KEY))
    elif spec.api_key.secret_name is not None:
        sources.append(_source("secret", spec.api_key.secret_name, spec.api_key.secret_key, SECRET_KEY))
    if spec.auth.enabled and spec.auth.existing_secret is not None:
        sources.append(_source("secret", spec.auth.existing_secret, spec.auth.secret_key, KEYS))
    elif spec.auth.enabled:
        sources.append(_source("secret", client_keys_name(name), KEYS, KEYS))
    if spec.redis.secret_name is not None:
        sources.append(_source("secret", spec.redis.secret_name, spec.redis.secret_key, REDIS_URL))
    if spec.agent.system_prompt_from is not None:
        reference = spec.agent.system_prompt_from.config_map_key_ref
        sources.append(_source("configMap", reference.name, reference.key, SYSTEM_PROMPT))
    return sources


def _source(kind: str, name: str, key: str, path: str) -> Document:
    return {kind: {"name": name, "items": [{"key": key, "path": path}]}}
