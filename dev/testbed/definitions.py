"""The real definitions of kinds that our objects use and that a cluster may lack, from their projects' releases."""

import json
from typing import Any

from testbed import modules
from testbed.cluster import Cluster

_FLUX = "config/crd/bases"
_PROMETHEUS = ("github.com/prometheus-operator/prometheus-operator", "example/prometheus-operator-crd")
_SOURCES = ("github.com/fluxcd/source-controller", f"{_FLUX}/source.toolkit.fluxcd.io")
FOREIGN = {
    "HTTPRoute": ("sigs.k8s.io/gateway-api", "config/crd/standard/gateway.networking.k8s.io_httproutes.yaml"),
    "ServiceMonitor": (_PROMETHEUS[0], f"{_PROMETHEUS[1]}/monitoring.coreos.com_servicemonitors.yaml"),
    "PrometheusRule": (_PROMETHEUS[0], f"{_PROMETHEUS[1]}/monitoring.coreos.com_prometheusrules.yaml"),
    "ScaledObject": ("github.com/kedacore/keda/v2", "config/crd/bases/keda.sh_scaledobjects.yaml"),
    "Application": ("github.com/argoproj/argo-cd/v3", "manifests/crds/application-crd.yaml"),
    "HelmRelease": ("github.com/fluxcd/helm-controller", f"{_FLUX}/helm.toolkit.fluxcd.io_helmreleases.yaml"),
    "Kustomization": (
        "github.com/fluxcd/kustomize-controller",
        f"{_FLUX}/kustomize.toolkit.fluxcd.io_kustomizations.yaml",
    ),
    "GitRepository": (_SOURCES[0], f"{_SOURCES[1]}_gitrepositories.yaml"),
    "OCIRepository": (_SOURCES[0], f"{_SOURCES[1]}_ocirepositories.yaml"),
}


def definition(kind: str) -> dict[str, Any]:
    """Return the CustomResourceDefinition of a kind in FOREIGN, as its project publishes it."""
    [found] = modules.definitions(*FOREIGN[kind])
    return found


def install(cluster: Cluster, *kinds: str) -> None:
    """Install the definitions of these kinds, and wait until the API server serves them."""
    wanted = [definition(kind) for kind in kinds]
    cluster.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps({**_LIST, "items": wanted}))
    for each in wanted:
        cluster.await_definition(each["metadata"]["name"])


_LIST = {"apiVersion": "v1", "kind": "List"}
