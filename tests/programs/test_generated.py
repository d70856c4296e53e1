"""The generated files are current, whatever machine and environment they are made on."""

import subprocess
import sys
from pathlib import Path

import pytest

from stand_in.agent import environment


def test_the_files_that_are_generated_from_the_models_are_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "agent_operator.api.generate", "--check"], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("where", [{}, {"ENVIRONMENT": "production", "XDG_STATE_HOME": "/elsewhere", "PORT": "9"}])
def test_the_references_are_current_wherever_they_are_made(tmp_path: Path, where: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "agent_service.reference", "--check"],
        env=environment(**where),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
