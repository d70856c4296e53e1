"""A tool that reads the Kubernetes API, with the token of the ServiceAccount that its container has."""

import os
import ssl
from pathlib import Path

import httpx2

from portside import tool

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
SECONDS = 10


@tool
def list_pods() -> str:
    """List the pods that run in the namespace of the agent."""
    # A kubelet replaces the token before it expires.
    token, namespace = ((ACCOUNT / name).read_text() for name in ("token", "namespace"))
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
    answer = httpx2.get(
        str(httpx2.URL(scheme="https", host=host, port=int(port), path=f"/api/v1/namespaces/{namespace}/pods")),
        params={"fieldSelector": "status.phase=Running"},
        headers={"Authorization": f"Bearer {token}"},
        verify=ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt")),
        timeout=SECONDS,
        trust_env=False,
    )
    names = [pod["metadata"]["name"] for pod in answer.raise_for_status().json()["items"]]
    return f"{len(names)} pods run in {namespace}: {', '.join(names)}."
