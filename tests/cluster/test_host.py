"""The cgroups of a node go when it ends, also while those of its pods vanish by themselves."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from testbed import host
from testbed.errors import TestbedError


def test_a_tree_whose_folders_vanish_meanwhile_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    top = tmp_path / "portside"
    for pod in ("one", "two"):
        (top / pod / "container").mkdir(parents=True)
    scan: Callable[[Any], Iterator[Any]] = os.scandir

    def scandir(folder: Any) -> Iterator[Any]:
        if Path(folder).name == "one" and Path(folder).exists():  # its last process ends just now
            (Path(folder) / "container").rmdir()
            Path(folder).rmdir()
        return scan(folder)

    monkeypatch.setattr(os, "scandir", scandir)
    host._remove_cgroups(top)
    assert not top.exists()


def test_a_cgroup_that_stays_in_use_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "CGROUP_REMOVAL_SECONDS", 0)
    (tmp_path / "portside").mkdir()
    (tmp_path / "portside" / "a file, as no empty cgroup has any here").touch()
    with pytest.raises(TestbedError, match="still has processes"):
        host._remove_cgroups(tmp_path / "portside")
