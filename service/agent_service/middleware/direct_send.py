"""The server's own `send`, for the pieces of a stream.

Middleware changes and notes the start of an answer, and its end; what is between passes it unread. A stream has a
piece for every token, which would otherwise pass through some twenty functions on its way to the server.
"""

from starlette.types import ASGIApp, Receive, Scope, Send

_DIRECT = "portside.direct_send"


class DirectSend:
    """Keeps the server's `send` in the scope. This must be the outermost middleware."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope[_DIRECT] = send
        await self.app(scope, receive, send)


def direct_send(scope: Scope, send: Send) -> Send:
    """Return the function that sends the body of an answer after its start and before its last message.

    Args:
        scope: scope of the request.
        send: the function for the start and for the last message; also for the rest if there is no other.
    """
    direct: Send = scope.get(_DIRECT, send)
    return direct
