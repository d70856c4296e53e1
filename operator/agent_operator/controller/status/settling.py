"""The settled state of what pods report in several polls: a single poll may find a transient error. Pure.

No text of a pod is shown, because pods run the user's code. A pod can only choose among the texts of this package.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

# The number of consecutive polls before a change counts. A single failed poll may be transient. A dependency that fails
# every other time must not make the condition change every other time.
POLLS_UNTIL_DOWN = 2
POLLS_UNTIL_UP_AGAIN = 3

UP = ""
# No ready pod answered.
SILENT = "?"

Reading = Mapping[str, str]
"""By name: `UP`, `SILENT`, or the kind of the problem. What is not reported is absent."""

# A pod may report any number of names.
_MOST_NAMES = 64


def agreed(one: Reading, other: Reading) -> Reading:
    """Combine the readings of two pods of an agent: what one of them can use is not down."""
    return {name: UP if UP in {kind, other.get(name, kind)} else kind for name, kind in one.items()}


def common(one: Reading, other: Reading) -> Reading:
    """Return what the readings of two pods of an agent have in common; what only one of them reports counts too."""
    return {name: value for name, value in {**one, **other}.items() if one.get(name, value) == value}


@dataclass
class _Settled:
    """The settled value of one name, and what the last polls found instead."""

    value: str | None = None
    _next: str | None = None
    _polls: int = 0

    @property
    def is_pending(self) -> bool:
        return self._polls > 0

    def take(self, found: str | None) -> None:
        """Record what a poll found; None for nothing."""
        if found == self.value:
            self._polls = 0
            return
        # Two polls that find it down count as the same finding, even for different reasons.
        now = "down" if is_down(found) and not is_down(self.value) else found
        self._polls = self._polls + 1 if self._polls and now == self._next else 1
        self._next = now
        if self._polls >= self._needed(found):
            self.value, self._polls = found, 0

    def _needed(self, found: str | None) -> int:
        if found == UP:
            return POLLS_UNTIL_UP_AGAIN if is_down(self.value) else 1
        return POLLS_UNTIL_DOWN


@dataclass
class Settling:
    """The settled state of everything that an agent's pods report, after any number of polls."""

    _settled: dict[str, _Settled] = field(default_factory=dict)
    _polls: int = 0

    def take(self, reading: Reading) -> None:
        """Record what a poll found."""
        self._polls += 1
        for name in reading:
            if name not in self._settled and len(self._settled) < _MOST_NAMES:
                self._settled[name] = _Settled()
        for name, settled in list(self._settled.items()):
            settled.take(reading.get(name))
            if settled.value is None and not settled.is_pending:
                del self._settled[name]

    @property
    def is_pending(self) -> bool:
        """Whether a change awaits confirmation by another poll."""
        return any(settled.is_pending for settled in self._settled.values())

    @property
    def settled(self) -> Reading | None:
        """The settled reading; None while it is unknown. That nothing is reported also takes several polls."""
        found = {name: each.value for name, each in self._settled.items() if each.value is not None}
        if not found and (self._polls < POLLS_UNTIL_DOWN or self.is_pending):
            return None
        return found


def is_down(found: str | None) -> bool:
    """Return whether a value is the kind of a problem."""
    return found not in {None, UP, SILENT}
