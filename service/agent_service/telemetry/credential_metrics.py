"""The Prometheus metrics of credentials that are made by an exchange and live for a time."""

import time

from prometheus_client import CollectorRegistry, Counter, Gauge

RESULTS = ("ok", "refused", "failed")


class CredentialMetrics:
    """The metrics of the exchanges."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._exchanges = Counter(
            "agent_model_credential_exchanges",
            "Exchanges of a service-account token or key for a credential of the model API, by result: `ok`, `refused` "
            "by the token service, or `failed` because it cannot be reached.",
            ["result"],
            registry=registry,
        )
        for result in RESULTS:
            self._exchanges.labels(result)
        self._expiry = Gauge(
            "agent_model_credential_expiry_timestamp_seconds",
            "Time at which the credential in use ends (Unix time); 0 before the first exchange, and with keys that are "
            "sent as they are.",
            multiprocess_mode="livemin",
            registry=registry,
        )

    def note(self, result: str, seconds: float) -> None:
        """Count an exchange. If it was `ok`, the new credential lives for `seconds`."""
        self._exchanges.labels(result).inc()
        if result == "ok":
            self._expiry.set(time.time() + seconds)
