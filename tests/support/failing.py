"""Show the state of the cluster when a test fails, in each tier that has a cluster."""

import subprocess
from collections.abc import Iterator

import pytest

from testbed.cluster import Cluster
from testbed.errors import TestbedError
from testbed.report import describe

# The clusters of this run, by the fixtures that provide them.
_CLUSTERS = pytest.StashKey[dict[str, Cluster]]()
# Prefixes of the tests' namespaces, and of the operator's.
_OF_TESTS = ("test-", "docs-", "portside-system")


def remember(request: pytest.FixtureRequest, cluster: Cluster) -> None:
    """Show this cluster when a test that uses the fixture of `request` fails."""
    request.config.stash.setdefault(_CLUSTERS, {})[str(request.fixturename)] = cluster


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Add the state of the cluster to the report of a failed test, before its namespace is deleted."""
    report: pytest.TestReport = yield  # type: ignore[assignment]
    if report.failed and report.when != "teardown":
        for fixture, cluster in item.config.stash.get(_CLUSTERS, {}).items():
            if fixture in getattr(item, "fixturenames", ()):
                report.sections.append((f"State of {fixture}", _state(cluster)))
    return report  # type: ignore[return-value]


def _state(cluster: Cluster) -> str:
    try:
        namespaces = cluster.get("namespaces", "--field-selector=status.phase=Active")["items"]
        names = [each["metadata"]["name"] for each in namespaces]
        return describe(cluster, *(name for name in names if name.startswith(_OF_TESTS)))
    except (TestbedError, subprocess.TimeoutExpired) as error:
        return f"It could not be read: {error}"
