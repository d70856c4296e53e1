"""Traffic that ends before a test does fails it with the reason: without its traffic a test proves nothing."""

import pytest

from e2e.traffic import Repeated, again_and_again, lines_of
from support.eventually import eventually
from testbed.cluster import Cluster
from testbed.errors import TestbedError

SECONDS = 60


@pytest.mark.usefixtures("model_api")
@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("print('{}'); raise ValueError('adrift')", r"ended before the test did(.|\n)*ValueError: adrift"),
        ("print('{}')", "ended before the test did"),
    ],
    ids=["error", "silence"],
)
def test_a_program_in_a_pod_that_ends_too_early_is_reported(program: str, reason: str, real_cluster: Cluster) -> None:
    def wait_for_its_end() -> None:
        with lines_of(real_cluster, program) as lines:
            eventually(lines.ended.is_set, "it ended", SECONDS)

    with pytest.raises(TestbedError, match=reason):
        wait_for_its_end()


@pytest.mark.usefixtures("model_api")
def test_a_program_in_a_pod_ends_with_its_input_and_reports_all(real_cluster: Cluster) -> None:
    with lines_of(real_cluster, "import sys; sys.stdin.read(); print('{}')") as lines:
        assert lines == []
    assert lines == [{}]

    with pytest.raises(TestbedError, match=r"ended with code 1(.|\n)*aground"):  # noqa: SIM117
        with lines_of(real_cluster, "import sys; sys.stdin.read(); sys.exit('aground')"):
            pass


def test_a_repeated_call_that_fails_is_reported() -> None:
    def do() -> None:
        raise OSError("no wind")

    def sail(seen: list[Repeated]) -> None:
        with again_and_again("sailing", do, 0.1) as sailing:
            seen.append(sailing)
            eventually(lambda: sailing.fault, "the failure is known", SECONDS)

    seen: list[Repeated] = []
    with pytest.raises(AssertionError, match="sailing ended before the tests did: OSError"):
        sail(seen)
    with pytest.raises(AssertionError, match="no wind"):
        seen[0].check()
