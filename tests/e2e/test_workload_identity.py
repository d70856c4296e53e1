"""An agent without a key in a real pod: the kubelet provides the token, and no container holds a lasting credential."""

import json
from typing import Any

import pytest

from e2e.agents import AGENT, READY_SECONDS, apply_agent, client, pods, secret_spec
from e2e.runtimes import put_file
from support.eventually import eventually
from testbed import images
from testbed.cluster import Cluster

pytestmark = [pytest.mark.usefixtures("operator"), pytest.mark.timing]

AUDIENCE = "api://AzureADTokenExchange"
SERVICE, PORT = "token-service", 8080
ISSUED = "issued-for-an-hour"

# Answers as Microsoft Entra does, and verifies the assertion by the keys of the cluster.
_TOKEN_SERVICE = """
import http.server, json, os, urllib.parse
import jwt

KEYS = {key["kid"]: jwt.PyJWK(key) for key in json.loads(os.environ["JWKS"])["keys"]}


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        form = dict(urllib.parse.parse_qsl(self.rfile.read(int(self.headers["Content-Length"])).decode()))
        token = form["client_assertion"]
        try:
            claims = jwt.decode(
                token,
                KEYS[jwt.get_unverified_header(token)["kid"]],
                algorithms=["RS256", "ES256"],
                audience=os.environ["AUDIENCE"],
                issuer=os.environ["ISSUER"],
            )
        except (jwt.PyJWTError, LookupError) as error:
            return self.send(401, {"error": "invalid_client", "error_description": type(error).__name__})
        if claims["sub"] != os.environ["SUBJECT"]:
            return self.send(401, {"error": "invalid_client", "error_description": "AADSTS700213"})
        self.send(200, {"access_token": os.environ["ISSUED"], "token_type": "Bearer", "expires_in": 3600})

    def send(self, status, found):
        body = json.dumps(found).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


http.server.ThreadingHTTPServer(("0.0.0.0", 8080), Handler).serve_forever()
"""

# What the agent's own container can read.
_LOOK = """
import base64, json, os, pathlib

folder = pathlib.Path("/etc/portside/secrets")
payload = (folder / "identity-token").read_text().split(".")[1]
print(json.dumps({
    "files": sorted(each.name for each in folder.iterdir() if not each.name.startswith(".")),
    "claims": json.loads(base64.urlsafe_b64decode(payload + "==")),
    "keys": sorted(name for name in os.environ if name.endswith(("_KEY", "_SECRET", "_TOKEN"))),
    "account": os.path.exists("/var/run/secrets/kubernetes.io/serviceaccount"),
}))
"""


def test_a_pod_without_a_key_answers_and_holds_no_lasting_credential(
    real_cluster: Cluster, namespace: str, model_api: str
) -> None:
    _run_token_service(real_cluster, namespace)
    apply_agent(real_cluster, namespace, _spec(model_api, namespace, put_file(real_cluster, namespace)))
    [pod] = pods(real_cluster, namespace)

    with client(real_cluster, namespace) as http:
        answer = http.post("/chat", json={"message": "Hello without a key!"}).raise_for_status().json()
        assert 'Stand-in heard "Hello without a key!"' in answer["response"]
        # A container of the user has neither the token nor what it was exchanged for.
        found = json.loads(http.post("/chat", json={"message": f"search {ISSUED}"}).json()["response"])
    assert {name: found[name] for name in ("token", "word", "mounts")} == {"token": [], "word": [], "mounts": []}
    assert found["searched"] > 1000

    look = real_cluster.kubectl("exec", "-n", namespace, pod, "-c", "agent", "--", "python", "-c", _LOOK)
    held: dict[str, Any] = json.loads(look)
    assert held["files"] == ["identity-token"]
    assert held["keys"] == []
    assert held["account"] is False
    assert held["claims"]["aud"] == [AUDIENCE]
    assert held["claims"]["sub"] == f"system:serviceaccount:{namespace}:{AGENT}"
    assert held["claims"]["exp"] - held["claims"]["iat"] <= 3600

    described = real_cluster.get("pod", pod, "-n", namespace)["spec"]
    assert described["automountServiceAccountToken"] is False
    # No container has a Secret in a volume or a variable, and the token is mounted into the agent's alone.
    assert _secrets(described) == [
        {"serviceAccountToken": {"audience": AUDIENCE, "expirationSeconds": 3600, "path": "identity-token"}}
    ]
    mounting = {each["name"] for each in _containers(described) if "secrets" in _names(each.get("volumeMounts", []))}
    assert mounting == {"agent"}

    with client(real_cluster, "model-api", "svc/model-api") as model:
        seen = model.get("/stand-in/requests").json()
    assert {each["key"] for each in seen if "without a key" in each["message"]} == {ISSUED[-4:]}


def _containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    return [*pod.get("initContainers", []), *pod["containers"]]


def _names(entries: list[dict[str, Any]]) -> set[str]:
    return {each["name"] for each in entries}


def _secrets(pod: dict[str, Any]) -> list[dict[str, Any]]:
    """Return each source of a credential among the volumes and the variables of all containers."""
    sources = [source for each in pod["volumes"] for source in each.get("projected", {}).get("sources", [])]
    variables = [variable for each in _containers(pod) for variable in each.get("env", [])]
    return [
        *(each for each in pod["volumes"] if "secret" in each),
        *(each for each in sources if each.keys() & {"secret", "serviceAccountToken"}),
        *(each for each in variables if "secretKeyRef" in each.get("valueFrom", {})),
        *(each for container in _containers(pod) for each in container.get("envFrom", []) if "secretRef" in each),
    ]


def _spec(model_api: str, namespace: str, runtime: dict[str, Any]) -> dict[str, Any]:
    identity = {
        "tokenUrl": f"http://{SERVICE}.{namespace}.svc:{PORT}",
        "foundry": {"tenantId": "tenant-1", "clientId": "client-1"},
    }
    agent = {
        "provider": "foundry",
        "foundry": {"baseUrl": model_api},
        "credentials": {"workloadIdentity": identity},
        "environment": "testing",
    }
    spec = secret_spec(model_api, agent=agent, runtime=runtime)
    del spec["apiKey"]
    return spec


def _run_token_service(cluster: Cluster, namespace: str) -> None:
    issuer = json.loads(cluster.kubectl("get", "--raw", "/.well-known/openid-configuration"))["issuer"]
    variables = {
        "ISSUER": issuer,
        "JWKS": cluster.kubectl("get", "--raw", "/openid/v1/jwks"),
        "AUDIENCE": AUDIENCE,
        "SUBJECT": f"system:serviceaccount:{namespace}:{AGENT}",
        "ISSUED": ISSUED,
    }
    container = {
        "name": SERVICE,
        "image": images.reference("service"),
        "imagePullPolicy": "IfNotPresent",
        "command": ["python", "-c", _TOKEN_SERVICE],
        "env": [{"name": name, "value": value} for name, value in variables.items()],
        "ports": [{"containerPort": PORT}],
        "readinessProbe": {"tcpSocket": {"port": PORT}, "periodSeconds": 1},
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 10002,
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    labels = {"app": SERVICE}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": SERVICE, "labels": labels},
        "spec": {"containers": [container], "automountServiceAccountToken": False},
    }
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": SERVICE},
        "spec": {"selector": labels, "ports": [{"port": PORT, "targetPort": PORT}]},
    }
    cluster.kubectl(
        "apply", "-n", namespace, "-f-", stdin=json.dumps({"kind": "List", "apiVersion": "v1", "items": [pod, service]})
    )
    eventually(lambda: _is_ready(cluster, namespace), "the token service is ready", READY_SECONDS)


def _is_ready(cluster: Cluster, namespace: str) -> bool:
    conditions = cluster.get("pod", SERVICE, "-n", namespace).get("status", {}).get("conditions", [])
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
