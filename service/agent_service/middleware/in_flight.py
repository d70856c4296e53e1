"""Limit the work of this process and of each client in it, and refuse new work while draining."""

from collections.abc import Callable

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agent_service.auth.clients import Clients
from agent_service.auth.identity import Client
from agent_service.lifecycle import Lifecycle
from agent_service.middleware.identify import CLIENT
from agent_service.paths import AGENT, Paths
from agent_service.telemetry.metrics import Metrics

_DRAINING = "This instance is shutting down; send the request again."
_OVERLOADED = "This instance has reached its limit of requests in flight; send the request again in a moment."
_CLIENT_BUSY = (
    "You have reached this instance's limit of requests in flight per client; send the request again when one of them "
    "is answered."
)

# From this status on an answer is an error: it is small, and its work is done before it is sent.
_FIRST_ERROR = 400


class InFlight:
    """Counts the requests in flight, and refuses new ones beyond the limits.

    Answers 503 above `most` requests and while draining, and 429 above `most_of_client` requests of one client.
    Requests without work take no slot: files and pages, requests without a valid key, and errors once they are known.
    Otherwise a client that does not read its answers could hold all slots with them.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        lifecycle: Lifecycle,
        metrics: Metrics,
        clients: Clients,
        most: int,
        most_of_client: int,
        paths: Paths = AGENT,
    ) -> None:
        self.app = app
        self.lifecycle = lifecycle
        self.metrics = metrics
        self.clients = clients
        self.most = most
        self.most_of_client = most_of_client
        self.paths = paths
        self.of_clients: dict[str, int] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in self.paths.probes:
            await self.app(scope, receive, send)
            return
        if self.lifecycle.draining:
            await self._shed("draining", _DRAINING)(scope, receive, send)
            return
        client: Client = scope[CLIENT]
        if self.paths.is_open(scope["path"]) or (not client.known and self.clients.need_keys):
            await self.app(scope, receive, send)
            return
        if self.lifecycle.in_flight >= self.most:
            await self._shed("overload", _OVERLOADED)(scope, receive, send)
            return
        if self.of_clients.get(client.id, 0) >= self.most_of_client:
            self.metrics.rate_limited.labels("in_flight").inc()
            await _retry_later(429, _CLIENT_BUSY)(scope, receive, send)
            return
        release = self._take(client.id)

        async def send_and_release(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] >= _FIRST_ERROR:
                release()
            await send(message)

        try:
            await self.app(scope, receive, send_and_release)
        finally:
            release()

    def _take(self, client: str) -> Callable[[], None]:
        """Take a slot, and return a function that releases it once."""
        self.lifecycle.in_flight += 1
        self.metrics.in_flight.inc()
        self.of_clients[client] = self.of_clients.get(client, 0) + 1
        held = True

        def release() -> None:
            nonlocal held
            if not held:
                return
            held = False
            self.lifecycle.in_flight -= 1
            self.metrics.in_flight.dec()
            self.of_clients[client] -= 1
            if not self.of_clients[client]:
                del self.of_clients[client]

        return release

    def _shed(self, reason: str, detail: str) -> JSONResponse:
        self.metrics.shed.labels(reason).inc()
        return _retry_later(503, detail)


def _retry_later(status: int, detail: str) -> JSONResponse:
    # The connection is closed, so that the next request of a pooled client goes to another pod.
    return JSONResponse({"detail": detail}, status_code=status, headers={"Retry-After": "1", "Connection": "close"})
