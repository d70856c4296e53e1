"""Owned objects that another client keeps changing: when to stop restoring them."""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from agent_operator.controller.status.drift import MOST_REMOVALS, WINDOW_SECONDS, Why
from agent_operator.kube.allowed import Path
from agent_operator.kube.drift import Foreign
from agent_operator.kube.resources import Key
from agent_operator.manifests.document import Document


@dataclass(frozen=True)
class Conceded:
    """Why an object is left as it is, while its `lasting` fingerprint and its desired document are unchanged."""

    fingerprint: str
    why: Why
    document: Document


@dataclass
class _Removals:
    paths: frozenset[Path] = frozenset()
    times: list[float] = field(default_factory=list)


class Disputes:
    """Records how often the same foreign entries were removed from an object."""

    def __init__(self) -> None:
        self._removals: dict[Key, dict[Any, _Removals]] = {}

    def is_lost(self, key: Key, name: tuple[str, str], entries: Iterable[Foreign]) -> bool:
        """Return whether these entries came back too often for another attempt."""
        removals = self._of(key, name, entries)
        return len(removals.times) >= MOST_REMOVALS

    def removed(self, key: Key, name: tuple[str, str], entries: Iterable[Foreign]) -> None:
        """Record that these entries were removed now."""
        self._of(key, name, entries).times.append(time.monotonic())

    def forget(self, key: Key) -> None:
        """Forget an agent that is gone."""
        self._removals.pop(key, None)

    def _of(self, key: Key, name: tuple[str, str], entries: Iterable[Foreign]) -> _Removals:
        paths = frozenset(entry.path for entry in entries)
        removals = self._removals.setdefault(key, {}).setdefault(name, _Removals(paths))
        if removals.paths != paths:
            removals.paths, removals.times = paths, []
        removals.times = [moment for moment in removals.times if moment > time.monotonic() - WINDOW_SECONDS]
        return removals
