"""The parts of which the queries of the dashboards are made."""

# Selectors with the dashboards' variables. Each variable is a regular expression; `All` matches everything.
AGENT = 'namespace=~"$namespace", service=~"$service"'
# The workers are scraped through a Service of their own.
WORKERS = 'namespace=~"$namespace", service=~"($service)-worker"'
BOTH = 'namespace=~"$namespace", service=~"($service)(-worker)?"'
SERVED = 'route!~"/health.*|/metrics"'
# With `All` selected, agents of the same name can come from different namespaces.
BY, PODS = "namespace, service", "namespace, pod"


def quantile(share: float, metric: str, labels: str, by: str) -> str:
    """Return the query of a share (0 to 1) of a histogram's observations."""
    return f"histogram_quantile({share}, sum by (le, {by}) (rate({metric}_bucket{{{labels}}}[$__rate_interval])))"


def rate(metric: str, labels: str, by: str) -> str:
    """Return the query of a counter's increase a second."""
    return f"sum by ({by}) (rate({metric}{{{labels}}}[$__rate_interval]))"


def memory(labels: str, ours: str) -> str:
    """Return the query of the memory of the pods that also have the metric `ours`, in bytes."""
    return f"sum by ({PODS}) (process_resident_memory_bytes{{{labels}}} and on ({PODS}) {ours})"


def cpu(labels: str, ours: str) -> str:
    """Return the query of the CPUs that the pods with the metric `ours` use."""
    return f"sum by ({PODS}) (rate(process_cpu_seconds_total{{{labels}}}[$__rate_interval]) and on ({PODS}) {ours})"


# Legends of an agent and of a pod.
WHO, POD = "{{namespace}}/{{service}}", "{{namespace}}/{{pod}}"
