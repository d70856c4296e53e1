"""The fallbacks of the agent's provider: a setting of the service, and folders of credentials."""

import json
from typing import Any

from agent_operator.api.budget import Price
from agent_operator.api.providers import Fallback
from agent_operator.api.spec import AgentSpec


def secrets_folder(index: int) -> str:
    """Return the folder with the credentials of a fallback, in that of the agent's secrets."""
    return f"fallback-{index + 1}"


def fallback_settings(spec: AgentSpec) -> dict[str, str | None]:
    """Return the setting of the service; nothing without fallbacks. Keys are sorted, as the chart writes them."""
    if not spec.agent.fallbacks:
        return {}
    prices = {} if spec.budget is None else spec.budget.prices or {}
    entries = [
        _entry(each, index, prices.get(each.model or spec.agent.model))
        for index, each in enumerate(spec.agent.fallbacks)
    ]
    return {"MODEL_FALLBACKS": json.dumps(entries, sort_keys=True, separators=(",", ":"), ensure_ascii=False)}


def _entry(fallback: Fallback, index: int, price: Price | None) -> dict[str, Any]:
    entry = fallback.model_dump(by_alias=True, exclude_none=True, exclude={"credentials"})
    if fallback.credentials is not None:
        entry["secretsDir"] = secrets_folder(index)
    if price is not None:
        entry["prices"] = price.model_dump(by_alias=True, exclude_none=True)
    return entry
