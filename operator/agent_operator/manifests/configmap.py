"""The ConfigMap: the settings of the agent API, under the names of its environment variables."""

from agent_operator.api.spec import AgentSpec
from agent_operator.manifests.form import Document, metadata


def settings(spec: AgentSpec) -> dict[str, str]:
    """The settings that the spec gives. One that it does not give has no key: the service has its default."""
    agent = spec.agent
    given = {
        "MODEL_PROVIDER": agent.provider,
        "DEFAULT_MODEL": agent.model,
        "MAX_TOKENS": str(agent.max_tokens),
        "SYSTEM_PROMPT": agent.system_prompt,
        "ANTHROPIC_BASE_URL": agent.base_url,
        "REQUEST_TIMEOUT_SECONDS": str(agent.request_timeout_seconds),
        "ENVIRONMENT": agent.environment,
        "LOG_LEVEL": spec.logging.level,
        "LOG_FORMAT": spec.logging.format,
    }
    return {key: value for key, value in given.items() if value is not None}


def config_map(name: str, namespace: str, spec: AgentSpec, managed_by: str) -> Document:
    """The ConfigMap of the agent."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(name, namespace, managed_by),
        "data": settings(spec),
    }
