"""Options, fixtures and scheduling of all tiers: how tests are distributed over workers, and which cluster they use.

With `--kubeconfig FILE`, or KUBECONFIG set, the cluster and e2e tiers use that cluster. Otherwise they start their own.
"""

import gc
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from support import failing
from support.progress import Progress

# The order in which `pytest -n` starts the tiers: the longest ones that cannot be split come first.
TIERS = ("e2e", "cluster", "programs", "lint", "service", "unit")
# The e2e files that do not share the node of all others: those on the playground, those that measure or restart a
# lot and take long, and those that start what they need.
NODES = {
    "test_docs": "playground",
    "test_playground": "playground",
    "test_readme": "playground",
    "test_prometheus": "measuring",
    "test_scaling": "measuring",
    "test_compose": "compose",
    "test_demo": "demo",
}


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(failing, "failing")  # a failing test shows the state of its cluster
    if config.getoption("numprocesses", None):  # set for the process that collects the reports of `pytest -n`
        config.pluginmanager.register(Progress(), "progress")
    # A shell makes its background jobs ignore interrupts; every program that a test starts would inherit that.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    # Thousands of tests and all modules live until the end. Each full collection of garbage would inspect them again,
    # for more than a second on a busy machine, in which the event loop of a test stands still.
    gc.collect()
    gc.freeze()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--kubeconfig",
        type=Path,
        help="run the cluster and e2e tiers on the cluster of this file (default: KUBECONFIG, else one of our own)",
    )
    parser.addoption(
        "--pictures",
        action="store_true",
        help="redraw the pictures of the dashboards in the docs, from five minutes of data",
    )
    parser.addoption(
        "--keda",
        action="store_true",
        help="have the scaling tests scale by a real KEDA, which takes long to build, instead of prometheus-adapter",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Order the tests by tier; `pytest -n` assigns them to its workers in this order."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: TIERS.index(_tier(item.nodeid)))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """Schedule the tests so that each worker of `pytest -n` starts few services and clusters."""
    return _Scheduling(config, log, shared_cluster=_given_kubeconfig(config) is not None)


class _Scheduling(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """Run tests that share something expensive in one worker: those of a file, and those on one e2e node.

    With `shared_cluster` all tests use an existing cluster: then the cluster tier runs in the e2e worker, as its files
    install and remove the same definitions.
    """

    def __init__(self, config: pytest.Config, log: Any, *, shared_cluster: bool) -> None:
        config.option.loadscopereorder = False  # the order of `pytest_collection_modifyitems`
        super().__init__(config, log)
        self._on_one_cluster = {"e2e", "cluster"} if shared_cluster else set()

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        if _tier(nodeid) in self._on_one_cluster:
            return "given cluster"
        return f"e2e on {NODES.get(Path(file).stem, 'its node')}" if _tier(nodeid) == "e2e" else file


def _tier(nodeid: str) -> str:
    """Return the tier of a test, such as `e2e` of `tests/e2e/test_agent.py::test_a`."""
    return nodeid.split("/")[1]


def pytest_report_header(config: pytest.Config) -> str:
    return "scaling by: " + ("KEDA" if config.getoption("--keda") else "prometheus-adapter (by KEDA: make test-keda)")


@pytest.fixture(scope="session")
def kubeconfig(request: pytest.FixtureRequest) -> Path | None:
    """The kubeconfig of the cluster set by `--kubeconfig` or KUBECONFIG, if any."""
    return _given_kubeconfig(request.config)


def _given_kubeconfig(config: pytest.Config) -> Path | None:
    option: Path | None = config.getoption("--kubeconfig")
    environment = os.environ.get("KUBECONFIG")
    return option or (Path(environment) if environment else None)
