"""The settings of the agent's provider in a cloud."""

import json

from agent_operator.api.providers import Bedrock, Foundry, Vertex, place
from agent_operator.api.spec import Agent


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
