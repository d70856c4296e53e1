"""What every tier shares: which cluster the tests run against, and a fresh namespace for each test.

With `--kubeconfig FILE`, or KUBECONFIG set, the cluster and e2e tiers use that cluster. Otherwise they start their own.
"""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# Its hook makes a test that fails show the state of its cluster.
from failing import (
    pytest_runtest_makereport,  # noqa: F401  pytest finds it here
    remember,
)
from testbed import cluster as clusters
from testbed.cluster import Cluster


def pytest_configure() -> None:
    # A shell has what it starts in the background ignore interrupts, and so would every program that a test starts.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--kubeconfig",
        type=Path,
        help="run the cluster and e2e tiers on the cluster of this file (default: KUBECONFIG, else one of our own)",
    )
    parser.addoption(
        "--pictures",
        action="store_true",
        help="draw the documents' pictures of the dashboards anew, from five minutes of data",
    )
    parser.addoption(
        "--keda",
        action="store_true",
        help="have the scaling tests scale by a real KEDA, which takes long to build, instead of prometheus-adapter",
    )


def pytest_report_header(config: pytest.Config) -> str:
    return "scaling by: " + ("KEDA" if config.getoption("--keda") else "prometheus-adapter (by KEDA: make test-keda)")


@pytest.fixture(scope="session")
def kubeconfig(request: pytest.FixtureRequest) -> Path | None:
    """The kubeconfig of the cluster that the tests were told to use, if they were."""
    option: Path | None = request.config.getoption("--kubeconfig")
    environment = os.environ.get("KUBECONFIG")
    return option or (Path(environment) if environment else None)


@pytest.fixture(scope="session")
def control_plane(kubeconfig: Path | None, request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A real API server with its controllers; our own has no nodes."""
    with clusters.provided("control-plane", kubeconfig) as cluster:
        remember(request, cluster)
        yield cluster


@pytest.fixture(scope="session")
def helm(control_plane: Cluster) -> Callable[..., str]:
    """Runs helm against the control plane: `helm(*arguments, stdin=None, check=True)` gives its standard output."""
    return control_plane.helm


@pytest.fixture
def namespace(control_plane: Cluster) -> Iterator[str]:
    """A fresh namespace of the control plane, under the restricted Pod Security Standard."""
    with control_plane.fresh_namespace() as name:
        yield name
