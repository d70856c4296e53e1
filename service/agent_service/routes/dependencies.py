"""The FastAPI dependencies of the routes."""

from typing import Annotated, cast

from fastapi import Depends, Request

from agent_service.auth.identity import ANYONE
from agent_service.components import Components


async def _components(request: Request) -> Components:
    return cast("Components", request.app.state.components)


def owner(request: Request) -> str:
    """Return the owner of a request's conversations and tasks: its client key, or `anyone` without keys."""
    client = request.scope.get("portside.client")
    return client.id if client is not None and client.known else ANYONE


def token(request: Request, components: Components) -> str | None:
    """Return the caller's own credential, for tools that it is forwarded to: the bearer token; None without one.

    A client's key of this agent is none, nor is a token for this agent alone: a server that received it could use the
    agent in the client's name.
    """
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    found = value.strip() if scheme.lower() == "bearer" else ""
    client = request.scope.get("portside.client")
    forwards = client is None or client.forwards
    return found if found and forwards and not components.clients.has(found.encode("latin-1")) else None


ComponentsDep = Annotated[Components, Depends(_components)]
