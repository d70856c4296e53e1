"""Objects of ours that others keep changing: when to stop putting them back, and how the status reports it."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from agent_operator.controller.reconcile.drift import Foreign, Path, named
from agent_operator.kube.conditions import Judgement
from agent_operator.kube.resources import Key
from agent_operator.manifests.document import Document

DRIFTED = "Drifted"

# A person tries two or three times. A controller that adds the same entry again within seconds would have the pods
# replaced for ever.
MOST_REMOVALS = 5
WINDOW_SECONDS = 600.0

Why = Literal["ChangedByAdmission", "ChangedAgain"]
_WORDS: dict[Why, str] = {
    "ChangedByAdmission": "it is changed in the moment in which it is written, as by an admission webhook or policy",
    "ChangedAgain": f"it was put back {MOST_REMOVALS} times in {WINDOW_SECONDS / 60:.0f} minutes and changed each time",
}


@dataclass(frozen=True)
class Left:
    """An object that is left as others changed it: what is foreign in it, nothing where they changed values of ours."""

    kind: str
    name: str
    why: Why
    entries: tuple[Foreign, ...]


@dataclass(frozen=True)
class Conceded:
    """Why an object is left, for as long as its `lasting` fingerprint and the document wanted of it stay the same."""

    fingerprint: str
    why: Why
    document: Document


@dataclass
class _Removals:
    paths: frozenset[Path] = frozenset()
    times: list[float] = field(default_factory=list)


class Disputes:
    """How often the same foreign entries were removed from an object."""

    def __init__(self) -> None:
        self._removals: dict[Key, dict[Any, _Removals]] = {}

    def is_lost(self, key: Key, name: tuple[str, str], entries: Iterable[Foreign]) -> bool:
        """Whether these entries came back too often for another try."""
        removals = self._of(key, name, entries)
        return len(removals.times) >= MOST_REMOVALS

    def removed(self, key: Key, name: tuple[str, str], entries: Iterable[Foreign]) -> None:
        """Take in that these entries were removed now."""
        self._of(key, name, entries).times.append(time.monotonic())

    def forget(self, key: Key) -> None:
        """The agent is gone."""
        self._removals.pop(key, None)

    def _of(self, key: Key, name: tuple[str, str], entries: Iterable[Foreign]) -> _Removals:
        paths = frozenset(entry.path for entry in entries)
        removals = self._removals.setdefault(key, {}).setdefault(name, _Removals(paths))
        if removals.paths != paths:
            removals.paths, removals.times = paths, []
        removals.times = [moment for moment in removals.times if moment > time.monotonic() - WINDOW_SECONDS]
        return removals


def judge_drift(left: Sequence[Left]) -> Judgement | None:
    """The condition about objects that are left as others changed them; None when there are none."""
    if not left:
        return None
    return Judgement("True", left[0].why, "; ".join(map(_described, left)))


def _described(left: Left) -> str:
    what = named(left.entries) if left.entries else "others changed values that the operator sets"
    return f"{left.kind} {left.name} is not as the spec has it, and stays so, because {_WORDS[left.why]}: {what}"
