"""Definitions of the kinds that a cluster may lack, with no schema of their own: theirs are the products' affair."""

from typing import Any

import yaml

from testbed.cluster import Cluster


def definition(group: str, kind: str, plural: str) -> dict[str, Any]:
    """A CustomResourceDefinition of that kind which takes everything."""
    anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    # The group gateway.networking.k8s.io is protected (KEP-1111): its definitions need a reference to their approval.
    approval = {"api-approved.kubernetes.io": "https://github.com/kubernetes-sigs/gateway-api/pull/891"}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}", "annotations": approval},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural, "singular": kind.lower(), "listKind": f"{kind}List"},
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": anything}}],
        },
    }


HTTP_ROUTE = definition("gateway.networking.k8s.io", "HTTPRoute", "httproutes")
SERVICE_MONITOR = definition("monitoring.coreos.com", "ServiceMonitor", "servicemonitors")


def install(cluster: Cluster, *definitions: dict[str, Any]) -> None:
    """Install the definitions, and wait until the API server serves them."""
    cluster.kubectl("apply", "--server-side", "-f", "-", stdin=yaml.safe_dump_all(definitions))
    for each in definitions:
        cluster.await_definition(each["metadata"]["name"])
