"""The ConfigMap: the settings of the agent API, under the names of its environment variables."""

import hashlib
from collections.abc import Mapping

from agent_operator.api.access import RateShare
from agent_operator.api.agent import AgentDeployment
from agent_operator.api.budget import BudgetShare
from agent_operator.api.protocols import Protocols
from agent_operator.api.spec import AgentSpec
from agent_operator.manifests.document import Document, metadata
from agent_operator.manifests.fallbacks import fallback_settings
from agent_operator.manifests.jwt_file import jwt_settings
from agent_operator.manifests.names import METRICS_PORT, SECRETS_DIR
from agent_operator.manifests.provider import identity_settings, provider_settings
from agent_operator.manifests.runtime import runtime_settings
from agent_operator.manifests.secret import inline_secrets
from agent_operator.manifests.secrets_volume import secret_sources
from agent_operator.manifests.tools import tool_settings
from agent_operator.manifests.tools_file import tools_file
from agent_operator.manifests.tracing import tracing_variables


def settings(agent: AgentDeployment) -> dict[str, str]:
    """Return the settings in the spec. A setting that is unset has no key: the service uses its default."""
    spec, limit = agent.spec, agent.spec.rate_limit
    given: dict[str, str | None] = {
        "AGENT_NAME": agent.name,
        "AGENT_DESCRIPTION": spec.agent.description,
        "MODEL_PROVIDER": spec.agent.provider,
        "DEFAULT_MODEL": spec.agent.model,
        "MAX_TOKENS": str(spec.agent.max_tokens),
        "SYSTEM_PROMPT": spec.agent.system_prompt,
        "ALLOW_SYSTEM_PROMPT": _boolean(spec.agent.allow_system_prompt),
        "ANTHROPIC_BASE_URL": spec.agent.base_url,
        "REQUEST_TIMEOUT_SECONDS": str(spec.agent.request_timeout_seconds),
        "STREAM_TIMEOUT_SECONDS": str(spec.agent.stream_timeout_seconds) if spec.agent.stream_timeout_seconds else None,
        "ENVIRONMENT": spec.agent.environment,
        "SECRETS_DIR": SECRETS_DIR if secret_sources(agent) else None,
        "RATE_LIMIT_REQUESTS": str(limit.requests_per_minute),
        "TOKENS_PER_MINUTE": str(limit.tokens_per_minute) if limit.tokens_per_minute else None,
        "USAGE_READERS": ",".join(spec.auth.usage_readers or []) or None,
        "TRUSTED_PROXIES": ",".join(limit.trusted_proxies or []) or None,
        # A proxy in a sidecar forwards the host that its client requested, over the pod's loopback address.
        "ALLOWED_HOSTS": "*" if spec.sidecars else None,
        "CORS_ORIGINS": ",".join(spec.cors.origins or []) or None,
        "CORS_ALLOW_CREDENTIALS": "true" if spec.cors.allow_credentials else None,
        "LOG_LEVEL": spec.logging.level,
        "LOG_FORMAT": spec.logging.format,
        "METRICS_PORT": str(METRICS_PORT),
    }
    given |= _of_rates("CLIENT", limit.per_client) | _of_rates("TENANT", limit.per_tenant)
    given |= _of_state(agent) | _of_budget(agent.spec) | tracing_variables(agent) | runtime_settings(agent)
    given |= tool_settings(agent.spec) | _of_protocols(agent.spec.api) | jwt_settings(agent.spec)
    given |= provider_settings(agent.spec.agent) | identity_settings(agent.spec.agent) | fallback_settings(agent.spec)
    return {key: value for key, value in given.items() if value is not None}


def _boolean(value: bool | None) -> str | None:
    return None if value is None else str(value).lower()


def _of_state(agent: AgentDeployment) -> dict[str, str | None]:
    """Return the settings that apply only with a shared Redis."""
    if not agent.spec.redis.given:
        return {}
    return {
        "REDIS_URL": agent.spec.redis.url,
        # Several agents may share a server.
        "STATE_PREFIX": f"{agent.namespace}/{agent.name}",
        "API_RUNS_TASKS": "false" if agent.spec.worker.enabled else "true",
        "WORKER_CONCURRENCY": str(agent.spec.worker.concurrency) if agent.spec.worker.enabled else None,
    }


def _of_protocols(api: Protocols | None) -> dict[str, str | None]:
    """Return the settings of the client protocols that the spec sets."""
    if api is None:
        return {}
    return {
        "API_OPENAI": _boolean(api.openai),
        "API_ANTHROPIC": _boolean(api.anthropic),
        "API_A2A": _boolean(api.a2a),
        "API_MCP": _boolean(api.mcp),
        "API_CLIENT_TOOLS": _boolean(api.client_tools),
        "API_MAX_BODY_BYTES": str(api.max_body_bytes) if api.max_body_bytes is not None else None,
        "API_MAX_INPUT_TOKENS": str(api.max_input_tokens) if api.max_input_tokens is not None else None,
    }


def _of_budget(spec: AgentSpec) -> dict[str, str | None]:
    """Return the limits of the budget, and the prices of the agent's model."""
    budget = spec.budget
    if budget is None:
        return {}
    bounds = {
        "BUDGET_PERIOD": budget.period,
        "BUDGET_ACTION": budget.action,
        "BUDGET_TOKENS": str(budget.tokens) if budget.tokens else None,
        "BUDGET_COST": budget.cost,
        **_of_share("CLIENT", budget.per_client),
        **_of_share("TENANT", budget.per_tenant),
    }
    price = (budget.prices or {}).get(spec.agent.model)
    if price is None:
        return bounds
    return bounds | {
        "PRICE_INPUT": price.input,
        "PRICE_OUTPUT": price.output,
        "PRICE_CACHE_WRITE": price.cache_write,
        "PRICE_CACHE_READ": price.cache_read,
    }


def _of_share(kind: str, share: BudgetShare | None) -> dict[str, str | None]:
    if share is None:
        return {}
    return {
        f"{kind}_BUDGET_TOKENS": str(share.tokens) if share.tokens else None,
        f"{kind}_BUDGET_COST": share.cost,
    }


def _of_rates(kind: str, share: RateShare | None) -> dict[str, str | None]:
    if share is None:
        return {}
    return {
        f"{kind}_RATE_LIMIT_REQUESTS": str(share.requests_per_minute) if share.requests_per_minute else None,
        f"{kind}_TOKENS_PER_MINUTE": str(share.tokens_per_minute) if share.tokens_per_minute else None,
    }


def config_map(agent: AgentDeployment) -> Document:
    """Return the ConfigMap of the agent."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(agent),
        "data": settings(agent),
    }


def config_checksum(agent: AgentDeployment) -> str:
    """Return the SHA-256, in hexadecimal, of the data of the ConfigMap, the inline Secret and the tools' ConfigMap.

    The data of each is hashed as sorted lines `KEY=VALUE`. The checksum is an annotation of the pod template, so that a
    change of any replaces the pods, which read them only at startup.
    """
    lines = _lines(settings(agent)) + _lines(inline_secrets(agent.spec)) + _lines(tools_file(agent.spec))
    return hashlib.sha256(lines.encode()).hexdigest()


def _lines(mapping: Mapping[str, str]) -> str:
    return "".join(f"{key}={value}\n" for key, value in sorted(mapping.items()))
