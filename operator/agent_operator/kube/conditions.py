"""Conditions (metav1.Condition): writing and reading judgements about an agent or another object."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from agent_operator.api.status import MAX_MESSAGE
from agent_operator.manifests.document import Document

Truth = Literal["True", "False", "Unknown"]


@dataclass(frozen=True)
class Judgement:
    """A condition without its timestamps."""

    status: Truth
    reason: str
    message: str


def condition(status: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return the condition of that type, or an empty mapping if it is missing."""
    return next((each for each in status.get("conditions") or [] if each.get("type") == name), {})


def conditions(
    judgements: Mapping[str, Judgement], generation: int, old: Mapping[str, Any], now: datetime
) -> list[Document]:
    """Return the judgements as conditions, by type. Unchanged ones keep their times from `old`, the previous status."""
    return [_condition(name, each, generation, condition(old, name), now) for name, each in judgements.items()]


def _condition(name: str, judgement: Judgement, generation: int, old: Mapping[str, Any], now: datetime) -> Document:
    changed = old.get("status") != judgement.status
    return {
        "type": name,
        "status": judgement.status,
        "observedGeneration": generation,
        "lastTransitionTime": timestamp(now) if changed else old["lastTransitionTime"],
        "reason": judgement.reason,
        "message": judgement.message[:MAX_MESSAGE],
    }


def timestamp(moment: datetime) -> str:
    """Return the moment in the API's time format: RFC 3339, UTC, whole seconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
