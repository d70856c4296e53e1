"""`GET /metrics`."""

from fastapi import APIRouter, Request, Response

from agent_service.routes.dependencies import ComponentsDep

router = APIRouter(tags=["metrics"])


@router.head("/metrics", include_in_schema=False)
@router.get("/metrics", response_class=Response)
async def metrics(request: Request, components: ComponentsDep) -> Response:
    """Return all metrics in the Prometheus text format, or in OpenMetrics if `Accept` asks for it."""
    body, content_type = components.metrics.expose(request.headers.get("Accept", ""))
    return Response(body, headers={"Content-Type": content_type})
