"""A program from a wheel runs and is the pinned version."""

from pathlib import Path

import pytest

from testbed import wheels
from testbed.errors import TestbedError


def test_a_program_of_another_version_than_the_pinned_one_is_an_error(tmp_path: Path) -> None:
    program = tmp_path / "kubectl"
    program.write_text("#!/bin/sh\necho Client Version: v1.36.30\n")
    program.chmod(0o755)
    with pytest.raises(TestbedError, match=r"should be v1\.36\.3\."):
        wheels.check_version(wheels.KUBECTL, program, "v1.36.3")
    wheels.check_version(wheels.KUBECTL, program, "v1.36.30")
