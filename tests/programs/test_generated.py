"""The generated files are current, whatever machine and environment generates them."""

import subprocess
import sys
from pathlib import Path

import pytest

from support.agent import environment
from testbed.paths import REPOSITORY


@pytest.mark.parametrize("where", [{}, {"ENVIRONMENT": "production", "XDG_STATE_HOME": "/elsewhere", "PORT": "9"}])
def test_the_generated_files_are_current_in_any_environment(tmp_path: Path, where: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "codegen", "--check", "operator", "service", "dashboards"],
        env=environment(PYTHONPATH=str(REPOSITORY / "dev"), **where),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
