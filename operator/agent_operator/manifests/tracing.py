"""The variables by which OpenTelemetry finds the collector: settings of the service, and of a runtime."""

from agent_operator.api.agent import AgentDeployment


def tracing_variables(agent: AgentDeployment) -> dict[str, str]:
    """Return the destination of traces, and the name and namespace of the service; nothing if tracing is disabled.

    Source: OpenTelemetry, "Specify resource attributes using Kubernetes annotations".
    """
    tracing = agent.spec.monitoring.tracing
    if tracing is None:
        return {}
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": tracing.endpoint,
        "OTEL_SERVICE_NAME": agent.name,
        "OTEL_RESOURCE_ATTRIBUTES": f"service.namespace={agent.namespace},k8s.namespace.name={agent.namespace}",
    }
