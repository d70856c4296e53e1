"""Answer the requests to one path as those to another."""

from starlette.types import ASGIApp, Receive, Scope, Send


class Alias:
    """Shows the requests of one method and path to all layers below as requests to `target`.

    It is outside of the layers that decide by the path: keys, limits and the form of errors are those of `target`.
    """

    def __init__(self, app: ASGIApp, *, method: str, path: str, target: str) -> None:
        self.app = app
        self.method = method
        self.path = path
        self.target = target
        self.raw_target = target.encode("ascii")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == self.path and scope["method"] == self.method:
            scope = {**scope, "path": self.target, "raw_path": self.raw_target}
        await self.app(scope, receive, send)
