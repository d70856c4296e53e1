"""Real pods: a cluster with a node, the built images in it, the operator installed by its chart, and a model API."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from stand_in import SERVER
from testbed import cluster as clusters
from testbed import images, paths
from testbed.cluster import Cluster
from testbed.images import Image
from testbed.report import describe

OPERATOR_NAMESPACE = "portside-system"
MODEL_API = "model-api"
READY = "--timeout=180s"


@pytest.fixture(scope="session")
def built_images() -> list[Image]:
    """The images, built from the Dockerfile."""
    return images.build_all()


@pytest.fixture(scope="session")
def real_cluster(kubeconfig: Path | None, built_images: list[Image]) -> Iterator[Cluster]:
    """A cluster whose node runs pods and has our images."""
    with clusters.provided("node", kubeconfig) as cluster:
        for image in built_images:
            cluster.load_image(image.archive)
        yield cluster


@pytest.fixture(scope="session")
def operator(real_cluster: Cluster) -> Iterator[None]:
    """The operator, installed by its chart as its users install it."""
    chart = str(paths.REPOSITORY / "helm" / "agent-operator")
    place = ["-n", OPERATOR_NAMESPACE, "--create-namespace"]
    try:
        real_cluster.helm("upgrade", "--install", "agent-operator", chart, *place, "--wait", READY)
    except BaseException:
        print(describe(real_cluster, OPERATOR_NAMESPACE))  # noqa: T201 - pytest shows it with the failure
        raise
    yield
    real_cluster.helm("uninstall", "agent-operator", "-n", OPERATOR_NAMESPACE, "--wait")
    real_cluster.kubectl("delete", "crd", "agentdeployments.portside.dev")
    real_cluster.kubectl("delete", "namespace", OPERATOR_NAMESPACE)


@pytest.fixture
def namespace(real_cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[str]:
    """A fresh namespace of the real cluster, under the restricted Pod Security Standard; shown when the test fails."""
    with real_cluster.fresh_namespace() as name:
        yield name
        if request.node.stash.get(FAILED, False):
            print(describe(real_cluster, OPERATOR_NAMESPACE, name))  # noqa: T201 - pytest shows it with the failure


@pytest.fixture(scope="session")
def model_api(real_cluster: Cluster) -> Iterator[str]:
    """The stand-in for the model API as a Service of the cluster; gives its URL, as pods resolve it."""
    real_cluster.kubectl("create", "namespace", MODEL_API)
    real_cluster.kubectl("apply", "-n", MODEL_API, "-f-", stdin=json.dumps(_model_api()))
    real_cluster.kubectl("rollout", "status", "-n", MODEL_API, f"deployment/{MODEL_API}", READY)
    yield f"http://{MODEL_API}.{MODEL_API}.svc"
    real_cluster.kubectl("delete", "namespace", MODEL_API, "--wait=false")


def _model_api() -> dict[str, object]:
    """The stand-in's one file, run by the Python of the service's image."""
    labels = {"app": MODEL_API}
    metadata = {"name": MODEL_API}
    container = {
        "name": MODEL_API,
        "image": images.reference("service"),
        "command": ["python", "/stand-in/server.py", "--host", "0.0.0.0", "--port", "8000"],  # noqa: S104
        "ports": [{"containerPort": 8000}],
        "readinessProbe": {"httpGet": {"path": "/stand-in/requests", "port": 8000}, "periodSeconds": 1},
        "volumeMounts": [{"name": "stand-in", "mountPath": "/stand-in"}],
    }
    pod = {"containers": [container], "volumes": [{"name": "stand-in", "configMap": metadata}]}
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata,
        "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": pod}},
    }
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata,
        "spec": {"selector": labels, "ports": [{"port": 80, "targetPort": 8000}]},
    }
    code = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {SERVER.name: SERVER.read_text()}}
    return {"apiVersion": "v1", "kind": "List", "items": [code, deployment, service]}


FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Remember that a test failed, so that its namespace can show what the cluster looked like."""
    report: pytest.TestReport = yield  # type: ignore[assignment]
    if report.when == "call" and report.failed:
        item.stash[FAILED] = True
    return report  # type: ignore[return-value]
