"""`/health`, `/health/live`, `/health/ready`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from agent_service import __version__
from agent_service.components import Components
from agent_service.health import memory
from agent_service.health.checks import Finding
from agent_service.health.publish import PRIMARY
from agent_service.routes.dependencies import ComponentsDep

if TYPE_CHECKING:
    from agent_service.tooling.toolbox import ServerState

router = APIRouter(tags=["health"])

# Above this share of its memory limit, the kernel is close to killing the container.
_MEMORY_SHARE = 0.9

_UNAVAILABLE = 503


class Alive(BaseModel):
    """Answer of `GET /health/live`."""

    alive: bool


class Ready(BaseModel):
    """Answer of `GET /health/ready`."""

    ready: bool
    reason: str | None = Field(description="Why it is not ready: `starting`, `draining` or `credentials refused`.")


class Component(BaseModel):
    """State of one part that the service depends on."""

    status: Literal["up", "down", "unknown"] = Field(
        description="State found by the last check; `unknown` before the first check."
    )
    latency_ms: float | None = Field(None, description="Milliseconds that the check took, if it sent a request.")
    checked_seconds_ago: float = Field(0.0, description="Age of this result in seconds.")
    kind: str | None = Field(
        None,
        description="Kind of the problem, in one word for programs, such as `unreachable`, `timed_out` or "
        "`credentials_refused`. Null while there is no problem.",
    )
    detail: str = Field(
        description="Result of the check, as a sentence. Answers of other services are only in the agent's log."
    )


class ToolServer(BaseModel):
    """State of one server of tools."""

    status: Literal["up", "down", "unknown"] = Field(
        description="Whether it is connected; `unknown` before the first attempt."
    )
    required: bool = Field(description="Whether turns are refused without it (`onUnavailable: fail`).")
    kind: str | None = Field(
        None,
        description="Kind of the problem, in one word for programs, such as `connection_refused`, `no_secret` or "
        "`credentials_refused`. Null while there is no problem.",
    )
    server: str | None = Field(None, description="Name and version that the server states. Null if it states none.")
    revision: str | None = Field(None, description="Revision of the protocol. Null before the first connection.")
    tools: int = Field(0, description="Number of tools that the server lists.")
    offered: int = Field(0, description="Number of these that the model is offered.")
    renamed: list[str] = Field([], description="Tools that are offered as `server__tool`, as others have their names.")
    unmatched: list[str] = Field([], description="Entries of `allow` that match no tool of the server.")


class Tools(Component):
    """State of the servers of tools, each by its name. `down` if one that is required is down."""

    servers: dict[str, ToolServer]


class Health(BaseModel):
    """Answer of `GET /health`."""

    status: Literal["healthy", "unhealthy"]
    version: str
    components: dict[str, Tools | Component] = Field(
        description="State of each component. `tools` is present only with servers of tools."
    )


@router.head("/health/live", include_in_schema=False)
@router.get("/health/live")
async def live() -> Alive:
    """Report that the process can answer."""
    return Alive(alive=True)


@router.head("/health/ready", include_in_schema=False)
@router.get("/health/ready", responses={503: {"model": Ready}})
async def ready(components: ComponentsDep, response: Response) -> Ready:
    """Report whether this instance should receive requests.

    The check calls no other service, so an outage of the model API leaves every pod ready.
    """
    reason = _why_not_ready(components)
    if reason is not None:
        response.status_code = _UNAVAILABLE
    return Ready(ready=reason is None, reason=reason)


@router.head("/health", include_in_schema=False)
@router.get("/health", responses={503: {"model": Health}})
async def health(components: ComponentsDep, response: Response) -> Health:
    """Report the state of every component, which is checked every few seconds.

    This endpoint is for people and monitors, not for probes.
    """
    found: dict[str, Tools | Component] = {
        name: _component(check.finding()) for name, check in components.checks.items()
    }
    found["memory"] = _memory()
    if components.toolbox is not None and (servers := components.toolbox.states()):
        found["tools"] = _tools(servers)
    healthy = all(component.status == "up" for name, component in found.items() if name != PRIMARY)
    if not healthy:
        response.status_code = _UNAVAILABLE
    return Health(status="healthy" if healthy else "unhealthy", version=__version__, components=found)


def _why_not_ready(components: Components) -> str | None:
    if components.lifecycle.draining:
        return "draining"
    if not components.lifecycle.started:
        return "starting"
    if components.credentials is not None and components.credentials.refused:
        return "credentials refused"
    return None


def _component(finding: Finding | None) -> Component:
    if finding is None:
        return Component(status="unknown", detail="It has not been checked yet.")
    return Component(
        status="up" if finding.up else "down",
        latency_ms=round(finding.seconds * 1000, 3),
        checked_seconds_ago=round(finding.age_seconds, 1),
        kind=finding.kind,
        detail=finding.detail,
    )


def _tools(states: "Sequence[ServerState]") -> Tools:
    servers = {state.name: _tool_server(state) for state in states}
    down = {name: server for name, server in servers.items() if server.status == "down"}
    required = [name for name, server in servers.items() if server.required and server.status != "up"]
    texts = [f"{name} is unavailable ({server.kind})" for name, server in down.items()]
    up = sum(server.status == "up" for server in servers.values())
    return Tools(
        status="up" if not required else "down" if set(required) & set(down) else "unknown",
        kind=next((servers[name].kind for name in required if name in down), None),
        detail="; ".join([f"{up} of {len(servers)} servers are connected", *texts]) + ".",
        servers=servers,
    )


def _tool_server(state: "ServerState") -> ToolServer:
    about = state.about
    server = ToolServer(
        status="up" if state.is_up else "unknown" if state.kind is None else "down",
        required=state.is_needed,
        kind=None if state.is_up else state.kind,
    )
    if about is None:
        return server
    return server.model_copy(
        update={
            "server": about.server or None,
            "revision": about.revision,
            "tools": about.tools,
            "offered": state.offered,
            "renamed": list(state.renamed),
            "unmatched": list(about.unmatched),
        }
    )


def _memory() -> Component:
    now = memory.measure()
    limit = f"of {now.limit // 2**20} MiB" if now.limit else "with no limit set"
    low = now.share >= _MEMORY_SHARE
    detail = f"{now.used // 2**20} MiB {limit}"
    return Component(status="down" if low else "up", kind="memory_low" if low else None, detail=detail)
