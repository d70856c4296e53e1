"""What FastAPI passes to the routes."""

from typing import Annotated, cast

from fastapi import Depends, Request

from agent_service.components import Components

# Where clients show no keys, whoever knows a conversation's id may go on with it.
ANYONE = "anyone"


async def _components(request: Request) -> Components:
    return cast("Components", request.app.state.components)


def owner(request: Request) -> str:
    """Give whom the conversations and tasks of a request belong to: its client key, or `anyone` without keys."""
    client = request.scope.get("portside.client")
    return client.id if client is not None and client.key else ANYONE


ComponentsDep = Annotated[Components, Depends(_components)]
