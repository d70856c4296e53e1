"""`GET /metrics`."""

from fastapi import APIRouter, Request, Response

from agent_service.routes.parts import PartsDep

router = APIRouter(tags=["metrics"])


@router.head("/metrics", include_in_schema=False)
@router.get("/metrics", response_class=Response)
async def metrics(request: Request, parts: PartsDep) -> Response:
    """Give all metrics in the Prometheus text format, or in OpenMetrics where `Accept` asks for it."""
    body, content_type = parts.metrics.expose(request.headers.get("Accept", ""))
    return Response(body, headers={"Content-Type": content_type})
