"""The condition about objects that are left with foreign changes. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from agent_operator.kube.conditions import Judgement
from agent_operator.kube.drift import Foreign, named

DRIFTED = "Drifted"

# A user tries two or three times. A controller that adds the same entry again within seconds would cause the pods to be
# replaced without end.
MOST_REMOVALS = 5
WINDOW_SECONDS = 600.0

Why = Literal["ChangedByAdmission", "ChangedAgain"]
_CAUSES: dict[Why, str] = {
    "ChangedByAdmission": "it is changed while it is written, for example by an admission webhook or policy",
    "ChangedAgain": f"it was restored {MOST_REMOVALS} times in {WINDOW_SECONDS / 60:.0f} minutes and changed each time",
}


@dataclass(frozen=True)
class Left:
    """An object that is left with foreign changes.

    `entries` are its foreign entries. They are empty if values that the operator sets were changed.
    """

    kind: str
    name: str
    why: Why
    entries: tuple[Foreign, ...]


def judge_drift(left: Sequence[Left]) -> Judgement | None:
    """Return the condition about objects that are left with foreign changes; None if there are none."""
    if not left:
        return None
    return Judgement("True", left[0].why, "; ".join(map(_described, left)))


def _described(left: Left) -> str:
    what = named(left.entries) if left.entries else "another client changed values that the operator sets"
    return f"{left.kind} {left.name} differs from the spec and is left as it is, because {_CAUSES[left.why]}: {what}"
