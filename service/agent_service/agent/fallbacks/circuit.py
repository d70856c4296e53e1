"""Whether a provider is worth a call, by how its latest calls ended. Pure."""

# A single error of a provider is often that of a single call.
_FAILURES = 3

# Errors that the next call would meet too, or that take long to show.
_AT_ONCE = frozenset({"unreachable", "timed_out", "credentials_refused", "not_offered"})

# How long a provider is skipped: at first about as long as a hiccup, and doubled with each failed probe.
SKIP_SECONDS = 10.0
LONGEST_SKIP_SECONDS = 60.0


class Circuit:
    """The health of one provider. Times are in seconds of a monotonic clock.

    After failures the provider is skipped for a bounded time. Then one call at a time probes it: a success ends the
    failures, and a failure makes it skipped for longer.
    """

    def __init__(self) -> None:
        self.succeeded()

    @property
    def failing(self) -> bool:
        """Whether the provider was skipped, and no call has succeeded since."""
        return self.until > 0

    def allows(self, now: float) -> bool:
        """Return whether a call may be made now."""
        return not self.failing or (now >= self.until and not self._probes)

    def begin(self) -> None:
        """Note that a call is made."""
        self._probes = self.failing

    def end(self) -> None:
        """Note that a call has ended, whatever its outcome."""
        self._probes = False

    def succeeded(self) -> None:
        """Note that the provider has answered."""
        self.until = 0.0
        self.reason: str | None = None
        self._failures = 0
        self._skip = SKIP_SECONDS
        self._probes = False

    def failed(self, reason: str, now: float, wait: float | None = None) -> bool:
        """Note a failed call, and return whether the provider is skipped from now on.

        Args:
            reason: why, as the label of the metrics.
            now: the current time.
            wait: seconds after which the provider asks to be called again.
        """
        self.reason = reason
        self._failures += 1
        if not (self.failing or wait or reason in _AT_ONCE or self._failures >= _FAILURES):
            return False
        # A call that began before the others failed says nothing new.
        if now >= self.until:
            seconds = max(self._skip, wait or 0.0)
            self.until = now + min(seconds, LONGEST_SKIP_SECONDS)
            self._skip = min(2 * self._skip, LONGEST_SKIP_SECONDS)
        return True
