"""The file with the issuers of tokens, which the service reads (the service: JWT_FILE), and its ConfigMap."""

import json

from agent_operator.api.agent import AgentDeployment
from agent_operator.api.spec import AgentSpec
from agent_operator.manifests.document import Document, metadata
from agent_operator.manifests.names import SECRETS_DIR

JWT_KEY = "jwt.json"


def jwt_name(agent: str) -> str:
    """Return the name of the ConfigMap."""
    return f"{agent}-jwt"


def jwt_settings(spec: AgentSpec) -> dict[str, str | None]:
    """Return the setting of the service; nothing without issuers."""
    return {} if spec.auth.jwt is None else {"JWT_FILE": f"{SECRETS_DIR}/{JWT_KEY}"}


def jwt_config_map(agent: AgentDeployment) -> Document | None:
    """Return the ConfigMap, or None without issuers. Keys are sorted, as a template of the chart writes them.

    Its file is beside those of the secrets, so that a change reaches the service without a restart.
    """
    if agent.spec.auth.jwt is None:
        return None
    document = agent.spec.auth.jwt.model_dump(by_alias=True, exclude_none=True)
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(agent, own_name=jwt_name(agent.name)),
        "data": {JWT_KEY: json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)},
    }


def jwt_addresses(spec: AgentSpec) -> list[str]:
    """Return the addresses that the keys are fetched from."""
    return [] if spec.auth.jwt is None else [each.jwks_url or each.issuer for each in spec.auth.jwt.issuers]
