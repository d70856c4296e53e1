"""One control plane per worker for all files of this tier. It ends before the worker starts the next tier."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.failing import remember
from testbed import cluster as clusters
from testbed.cluster import Cluster


@pytest.fixture(scope="package")
def control_plane(kubeconfig: Path | None, request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A real API server with its controllers; the test bed's own has no nodes."""
    with clusters.provided("control-plane", kubeconfig) as cluster:
        remember(request, cluster)
        yield cluster


@pytest.fixture(scope="package")
def helm(control_plane: Cluster) -> Callable[..., str]:
    """Run helm against the control plane: `helm(*arguments, stdin=None, check=True)` returns its standard output."""
    return control_plane.helm


@pytest.fixture
def namespace(control_plane: Cluster) -> Iterator[str]:
    """A fresh namespace of the control plane, under the restricted Pod Security Standard."""
    with control_plane.fresh_namespace() as name:
        yield name
