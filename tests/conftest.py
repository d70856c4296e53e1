"""What every tier shares: how tests are spread over workers, which cluster they use, and a namespace for each test.

With `--kubeconfig FILE`, or KUBECONFIG set, the cluster and e2e tiers use that cluster. Otherwise they start their own.
"""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from testbed import cluster as clusters
from testbed import paths
from testbed.cluster import Cluster

# The order in which `pytest -n` starts the tiers: what takes longest and cannot be divided comes first.
TIERS = ("e2e", "cluster", "programs", "lint", "service", "unit")


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


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Order the tests by tier and file, and group them so that each worker starts few services and clusters.

    `pytest -n WORKERS --dist loadgroup` runs a group in one worker (pytest-xdist, "Running tests in parallel").
    """
    if not config.getoption("numprocesses", None) and not hasattr(config, "workerinput"):
        return
    shared = _given_kubeconfig(config) is not None
    for item in items:
        item.add_marker(pytest.mark.xdist_group(_group(item, shared=shared)))
    items.sort(key=lambda item: TIERS.index(_tier(item)))


def _group(item: pytest.Item, *, shared: bool) -> str:
    """Return the group of a test: its file, or its cluster where there is one for many files.

    All e2e tests share a node. Where all tests are to use one given cluster (`shared`), the cluster tier is in that
    group too: its files install and remove the same definitions.
    """
    tier = _tier(item)
    if tier == "e2e" or (shared and tier == "cluster"):
        return "e2e"
    return item.path.relative_to(paths.REPOSITORY / "tests").with_suffix("").as_posix()


def _tier(item: pytest.Item) -> str:
    return item.path.relative_to(paths.REPOSITORY / "tests").parts[0]


def pytest_report_header(config: pytest.Config) -> str:
    return "scaling by: " + ("KEDA" if config.getoption("--keda") else "prometheus-adapter (by KEDA: make test-keda)")


@pytest.fixture(scope="session")
def kubeconfig(request: pytest.FixtureRequest) -> Path | None:
    """The kubeconfig of the cluster that the tests were told to use, if they were."""
    return _given_kubeconfig(request.config)


def _given_kubeconfig(config: pytest.Config) -> Path | None:
    option: Path | None = config.getoption("--kubeconfig")
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


@pytest.fixture
def namespace(control_plane: Cluster) -> Iterator[str]:
    """A fresh namespace of the control plane, under the restricted Pod Security Standard."""
    with control_plane.fresh_namespace() as name:
        yield name
