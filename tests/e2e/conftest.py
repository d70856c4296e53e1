"""Real pods: a cluster with a node, the built images on it, the operator installed by its chart, and a model API.

They are removed before a worker continues with the next tier.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.failing import remember
from testbed import addons, images, playground, scripts
from testbed import cluster as clusters
from testbed.addons import MODEL_API
from testbed.cluster import Cluster, OwnCluster
from testbed.images import Image


@pytest.fixture(scope="session")
def built_images() -> list[Image]:
    """The images, built from the Dockerfile."""
    return images.build_all()


@pytest.fixture(scope="package")
def real_cluster(
    kubeconfig: Path | None, built_images: list[Image], request: pytest.FixtureRequest
) -> Iterator[Cluster]:
    """A cluster whose node runs pods and has the built images."""
    with clusters.provided("node", kubeconfig) as cluster:
        remember(request, cluster)
        for image in built_images:
            cluster.load_image(image.archive)
        yield cluster


@pytest.fixture(scope="package")
def operator(real_cluster: Cluster) -> Iterator[None]:
    """The operator, installed by its chart as users install it."""
    if isinstance(real_cluster, OwnCluster):
        addons.install(real_cluster, addons.named("operator"))
        yield  # everything is removed with the cluster
        return
    with addons.running(real_cluster, "operator"):
        yield


@pytest.fixture
def namespace(real_cluster: Cluster) -> Iterator[str]:
    """A fresh namespace of the real cluster, under the restricted Pod Security Standard."""
    with real_cluster.fresh_namespace() as name:
        yield name


@pytest.fixture(scope="package")
def model_api(real_cluster: Cluster) -> Iterator[str]:
    """The stand-in for the model API as a Service of the cluster; yields its URL, as pods resolve it."""
    with addons.running(real_cluster, MODEL_API):
        yield scripts.url(MODEL_API, MODEL_API)


@pytest.fixture(scope="package")
def playground_cluster(request: pytest.FixtureRequest, kubeconfig: Path | None) -> Iterator[Cluster]:
    """The cluster that `make cluster-up` makes, by the same function; an existing cluster gets the same add-ons."""
    if kubeconfig is not None:
        given: Cluster = request.getfixturevalue("real_cluster")
        remember(request, given)
        with addons.running(given, *addons.NAMES):
            yield given
        return
    cluster = OwnCluster(f"playground-{os.getpid()}")
    try:
        playground.bring_up(cluster, lifeline=True)
        remember(request, cluster)
        yield cluster
    finally:
        cluster.stop(at_once=True)
