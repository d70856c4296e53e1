"""`GET /v1/models`: the agent as the only model, in a form that is valid for the clients of OpenAI and of Anthropic."""

from fastapi import APIRouter, HTTPException
from starlette.responses import JSONResponse, Response

from agent_service.gateway import model_list
from agent_service.routes.dependencies import ComponentsDep

# Not in the OpenAPI document: the APIs that have this path are documented elsewhere.
router = APIRouter(include_in_schema=False)


@router.get("/v1/models")
async def models(components: ComponentsDep) -> Response:
    """Return the agent as the only model."""
    return JSONResponse(model_list.models([components.settings.agent_name]))


@router.get("/v1/models/{name:path}")
async def model(name: str, components: ComponentsDep) -> Response:
    """Return the agent as a model, if this is its name."""
    agent = components.settings.agent_name
    if name != agent:
        raise HTTPException(404, f"The model '{name}' does not exist. This agent is '{agent}'.")
    return JSONResponse(model_list.model(name))
