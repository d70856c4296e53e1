"""Real pods: a cluster with a node, the built images in it, the operator installed by its chart, and a model API."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e import scripts
from failing import remember
from stand_in import SERVER
from testbed import cluster as clusters
from testbed import images, paths
from testbed.cluster import Cluster, OwnCluster
from testbed.images import Image

OPERATOR_NAMESPACE = "portside-system"
MODEL_API = "model-api"
READY = "--timeout=180s"


@pytest.fixture(scope="session")
def built_images() -> list[Image]:
    """The images, built from the Dockerfile."""
    return images.build_all()


@pytest.fixture(scope="session")
def real_cluster(
    kubeconfig: Path | None, built_images: list[Image], request: pytest.FixtureRequest
) -> Iterator[Cluster]:
    """A cluster whose node runs pods and has our images."""
    with clusters.provided("node", kubeconfig) as cluster:
        remember(request, cluster)
        for image in built_images:
            cluster.load_image(image.archive)
        yield cluster


@pytest.fixture(scope="session")
def operator(real_cluster: Cluster) -> Iterator[None]:
    """The operator, installed by its chart as its users install it."""
    chart = str(paths.REPOSITORY / "helm" / "agent-operator")
    place = ["-n", OPERATOR_NAMESPACE, "--create-namespace"]
    real_cluster.helm("upgrade", "--install", "agent-operator", chart, *place, "--wait", READY)
    yield
    if isinstance(real_cluster, OwnCluster):
        return  # all of it ends with the cluster, which is next
    real_cluster.helm("uninstall", "agent-operator", "-n", OPERATOR_NAMESPACE, "--wait")
    real_cluster.kubectl("delete", "crd", "agentdeployments.portside.dev")
    real_cluster.kubectl("delete", "namespace", OPERATOR_NAMESPACE)


@pytest.fixture
def namespace(real_cluster: Cluster) -> Iterator[str]:
    """A fresh namespace of the real cluster, under the restricted Pod Security Standard."""
    with real_cluster.fresh_namespace() as name:
        yield name


@pytest.fixture(scope="session")
def model_api(real_cluster: Cluster) -> Iterator[str]:
    """The stand-in for the model API as a Service of the cluster; gives its URL, as pods resolve it."""
    real_cluster.kubectl("create", "namespace", MODEL_API)
    anywhere = ("--host", "0.0.0.0", "--port", "8000")  # noqa: S104  it is for a pod
    yield scripts.start(real_cluster, MODEL_API, MODEL_API, SERVER, 8000, *anywhere)
    real_cluster.kubectl("delete", "namespace", MODEL_API, "--wait=false")
