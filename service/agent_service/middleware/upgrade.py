"""Show a WebSocket to all middleware as the GET request that it begins with, so that no check can be passed by.

With it as the outermost layer, each layer treats a WebSocket as any request: it needs a key, counts against the limits
and in the metrics, and a refusal is an HTTP response before the upgrade (ASGI: `websocket.http.response`).
"""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

SUBPROTOCOLS = "portside.subprotocols"
"""Key of the scope of a WebSocket: the subprotocols that the client offers. No other request has it."""

SWITCHED = 101
"""The status with which the app accepts a WebSocket. Afterwards it receives and sends `websocket.` messages."""

_SCHEMES = {"ws": "http", "wss": "https"}


class Upgrade:
    """Turns a scope of type `websocket` into one of type `http`, and a response of 101 into an accepted WebSocket.

    The message `http.response.start` of such a response may have `subprotocol`.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "websocket":
            await self.app(scope, receive, send)
            return
        request = {
            **scope,
            "type": "http",
            "method": "GET",
            "scheme": _SCHEMES.get(scope["scheme"], scope["scheme"]),
            SUBPROTOCOLS: scope["subprotocols"],
        }
        connected = False

        async def receive_as_request() -> Message:
            nonlocal connected
            message = await receive()
            if connected or message["type"] != "websocket.connect":
                return message
            connected = True
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send_as_websocket(message: Message) -> None:
            await send(_translate(message))

        await self.app(request, receive_as_request, send_as_websocket)


def _translate(message: Message) -> Message:
    kind = message["type"]
    if kind == "http.response.start" and message["status"] == SWITCHED:
        headers = message.get("headers", ())
        return {"type": "websocket.accept", "subprotocol": message.get("subprotocol"), "headers": headers}
    if kind.startswith("http.response."):
        return {"body": b"", **message, "type": f"websocket.{kind}"}
    return message
