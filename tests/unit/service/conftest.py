"""Isolation: the settings of the agent API come only from the test."""

from pathlib import Path

import pytest

from support.agent import SETTING_NAMES


@pytest.fixture(autouse=True)
def _settings_of_the_test_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep the developer's environment and `.env` file out of these tests."""
    for name in SETTING_NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
