"""How `pytest -n` distributes the tests: the names in tests/conftest.py are those of folders and files."""

from pathlib import Path

import pytest

import conftest

TESTS = Path(__file__).parent.parent


def test_every_tier_is_ordered(pytestconfig: pytest.Config) -> None:
    assert sorted(conftest.TIERS) == sorted(Path(folder).name for folder in pytestconfig.getini("testpaths"))


@pytest.mark.parametrize("file", conftest.NODES)
def test_every_file_with_a_node_of_its_own_exists(file: str) -> None:
    assert (TESTS / "e2e" / f"{file}.py").is_file()
