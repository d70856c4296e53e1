"""The Prometheus metrics by client. The configuration bounds the values of the label `client`."""

from contextlib import suppress

from prometheus_client import CollectorRegistry, Counter, Gauge

# Why a request is refused for its credential.
REFUSALS = (
    *("missing", "key", "malformed", "algorithm", "issuer", "signature", "expired", "not_yet_valid"),
    *("audience", "claims", "scope", "unavailable"),
)

# Names of keys. The key file may change any number of times while a process runs.
_MOST_NAMES = 100
_OTHER = "other"


class CallerMetrics:
    """The metrics by client."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._names: set[str] = set()
        self._requests = Counter(
            "agent_client_requests",
            "Requests answered, by the name of the client's key; `unnamed` for a key without a name, `jwt` for all "
            "clients with tokens, `other` beyond a hundred names.",
            ["client"],
            registry=registry,
        )
        self._tokens = Counter(
            "agent_client_tokens",
            "Tokens of the model by the name of the client's key, as for `agent_client_requests_total`; `anonymous` "
            "without a client.",
            ["client", "direction"],
            registry=registry,
        )
        self.refused = Counter(
            "agent_auth_refused",
            "Requests refused for their credential: `missing`, an invalid `key`, or the fault of a token.",
            ["reason"],
            registry=registry,
        )
        self.issuer_up = Gauge(
            "agent_jwt_issuer_up",
            "Whether the keys of an issuer of tokens could be fetched (1) at the last try; earlier ones stay in use.",
            ["issuer"],
            multiprocess_mode="livemin",
            registry=registry,
        )
        # Created up front: Prometheus sees no increase in a series that first appears with a value.
        for reason in REFUSALS:
            self.refused.labels(reason)

    def forget_issuer(self, issuer: str) -> None:
        """Remove the state of an issuer that is no longer in the file."""
        with suppress(KeyError):
            self.issuer_up.remove(issuer)

    def count(self, label: str) -> None:
        """Count a request of the client with this label."""
        self._requests.labels(self._bounded(label)).inc()

    def count_tokens(self, label: str, *, sent: int, received: int) -> None:
        """Count tokens of the client with this label."""
        bounded = self._bounded(label)
        self._tokens.labels(bounded, "input").inc(sent)
        self._tokens.labels(bounded, "output").inc(received)

    def _bounded(self, label: str) -> str:
        if label not in self._names:
            if len(self._names) >= _MOST_NAMES:
                return _OTHER
            self._names.add(label)
        return label
