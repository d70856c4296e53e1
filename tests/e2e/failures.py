"""What a test that failed shows of the cluster."""

import pytest

from testbed.addons import OPERATOR_NAMESPACE
from testbed.cluster import Cluster
from testbed.report import describe

FAILED = pytest.StashKey[bool]()


def show_if_failed(request: pytest.FixtureRequest, cluster: Cluster, namespace: str) -> None:
    """Print the operator's namespace and the test's own when the test of `request` has failed."""
    if request.node.stash.get(FAILED, False):
        print(describe(cluster, OPERATOR_NAMESPACE, namespace))  # noqa: T201 - pytest shows it with the failure
