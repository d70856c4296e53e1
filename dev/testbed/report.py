"""The state of a cluster after a failure, as text for users."""

from testbed.cluster import Cluster

LOG_LINES = 40


def describe(cluster: Cluster, *namespaces: str) -> str:
    """Return the objects, events and last log lines of each of `namespaces`, as text; omit what is unavailable."""
    parts = [cluster.kubectl("get", "agentdeployments", "-A", "-oyaml", "--ignore-not-found", check=False)]
    for namespace in namespaces:
        parts += [
            f"--- namespace {namespace}",
            cluster.kubectl("get", "deployments,pods,services,hpa", "-n", namespace, "-owide", check=False),
            cluster.kubectl("get", "events", "-n", namespace, "--sort-by=.lastTimestamp", check=False),
        ]
        pods = cluster.kubectl("get", "pods", "-n", namespace, "-oname", check=False).split()
        for pod in pods:
            logs = cluster.kubectl("logs", "-n", namespace, pod, "--all-containers", f"--tail={LOG_LINES}", check=False)
            parts += [f"--- log of {pod}", logs]
    return "\n".join(parts)
