"""KEDA in the cluster, from the manifests of its release, with its programs built here and copied into their pods."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from support.eventually import eventually
from testbed import binaries, images, modules
from testbed.cluster import Cluster

MODULE = "github.com/kedacore/keda/v2"
NAMESPACE = "keda"
# Its operator creates certificates, and waits until the kubelet has mounted them in its pod.
READY_SECONDS = 180
UPLOAD_SECONDS = 120
# The command of a container that waits for its program; the program's name and arguments follow.
_WAITING = ("sh", "-c", 'until [ -e /data/whole ]; do sleep 0.2; done; exec "/data/$0" "$@"')
_FILES = (
    "general/namespace.yaml",
    *(f"crd/bases/keda.sh_{kind}.yaml" for kind in ("scaledobjects", "scaledjobs")),
    *(f"crd/bases/keda.sh_{kind}.yaml" for kind in ("triggerauthentications", "clustertriggerauthentications")),
    *(f"crd/bases/eventing.keda.sh_{kind}.yaml" for kind in ("cloudeventsources", "clustercloudeventsources")),
    "service_account/service_account.yaml",
    *(f"rbac/{file}.yaml" for file in ("role", "role_binding")),
    *(f"manager/{file}.yaml" for file in ("manager", "service")),
    *(f"metrics-server/{file}.yaml" for file in ("role", "role_binding", "deployment", "service", "api_service")),
)
# The programs of its Deployments, and their additional arguments.
_PROGRAMS = {"keda-operator": ("keda", "--enable-webhook-patching=false"), "keda-metrics-apiserver": ("keda-adapter",)}


@contextmanager
def running(cluster: Cluster) -> Iterator[None]:
    """Run KEDA; ScaledObjects are served and reconciled while the context is active."""
    documents = [_here(document) for file in _FILES for document in modules.definitions(MODULE, f"config/{file}")]
    manifests = json.dumps({"apiVersion": "v1", "kind": "List", "items": documents})
    try:
        cluster.kubectl("apply", "--server-side", "-f-", stdin=manifests)
        for deployment, (program, *_) in _PROGRAMS.items():
            chosen = ("pods", "-n", NAMESPACE, "-l", f"app={deployment}", "--field-selector=status.phase=Running")
            waits = f"{deployment} waits for its program"
            eventually(partial(_are_there, cluster, *chosen), waits, READY_SECONDS)
            _upload(cluster, f"deployment/{deployment}", program)
            rollout = ("rollout", "status", "-n", NAMESPACE, f"deployment/{deployment}")
            cluster.kubectl(*rollout, f"--timeout={READY_SECONDS}s")
        yield
    finally:
        # KEDA must still run to remove their finalizer (finalizer.keda.sh), or they and their namespaces never go away.
        everywhere = ("--all", "--all-namespaces", f"--timeout={READY_SECONDS}s")
        cluster.kubectl("delete", "scaledobjects.keda.sh", *everywhere, check=False)
        cluster.kubectl("delete", "--ignore-not-found", "-f-", stdin=manifests)


def _upload(cluster: Cluster, target: str, name: str) -> None:
    """Copy the program `name` into the pod `target`, which waits for it."""
    kubectl = str(binaries.provide("kubectl")["kubectl"])
    store = f"cat > /data/{name} && chmod +x /data/{name} && touch /data/whole"
    command = [kubectl, "exec", "-i", "-n", NAMESPACE, target, "--", "sh", "-c", store]
    with binaries.provide(name)[name].open("rb") as program:
        subprocess.run(command, env=cluster.environment, stdin=program, timeout=UPLOAD_SECONDS, check=True)


def _are_there(cluster: Cluster, *chosen: str) -> bool:
    return bool(cluster.get(*chosen)["items"])


def _here(document: dict[str, Any]) -> dict[str, Any]:
    """Return a Deployment whose pod waits for its program; any other object unchanged."""
    if document["kind"] != "Deployment":
        return document
    pod = document["spec"]["template"]["spec"]
    [container] = pod["containers"]
    program, *more = _PROGRAMS[document["metadata"]["name"]]
    container |= {
        "image": images.reference("service"),
        "imagePullPolicy": "IfNotPresent",
        "command": [*_WAITING, program],
        "args": [*container["args"], *more],
    }
    container["volumeMounts"].append({"name": "program", "mountPath": "/data"})
    pod["volumes"].append({"name": "program", "emptyDir": {}})
    # It cannot answer a liveness probe until it has its program.
    container.pop("livenessProbe")
    return document
