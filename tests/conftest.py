"""What every tier shares: which cluster the tests run against, and a fresh namespace for each test.

With `--kubeconfig FILE`, or KUBECONFIG set, the cluster and e2e tiers use that cluster. Otherwise they start their own.
"""

import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from testbed import cluster as clusters
from testbed.cluster import Cluster


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--kubeconfig",
        type=Path,
        help="run the cluster and e2e tiers on the cluster of this file (default: KUBECONFIG, else one of our own)",
    )


@pytest.fixture(scope="session")
def kubeconfig(request: pytest.FixtureRequest) -> Path | None:
    """The kubeconfig of the cluster that the tests were told to use, if they were."""
    option: Path | None = request.config.getoption("--kubeconfig")
    environment = os.environ.get("KUBECONFIG")
    return option or (Path(environment) if environment else None)


@pytest.fixture(scope="session")
def control_plane(kubeconfig: Path | None) -> Iterator[Cluster]:
    """A real API server with its controllers; our own has no nodes."""
    with clusters.provided("control-plane", kubeconfig) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def helm(control_plane: Cluster) -> Callable[..., str]:
    """Runs helm against the control plane: `helm(*arguments, stdin=None, check=True)` gives its standard output."""
    return control_plane.helm


def fresh_namespace(cluster: Cluster) -> Iterator[str]:
    """Make a namespace of `cluster`, labelled for restricted pods, and remove it after the test without waiting."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    cluster.kubectl("create", "namespace", name)
    cluster.kubectl("label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture
def namespace(control_plane: Cluster) -> Iterator[str]:
    """A fresh namespace of the control plane, under the restricted Pod Security Standard."""
    yield from fresh_namespace(control_plane)
