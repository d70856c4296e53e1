"""Restoring what a node changes on the machine: cgroups, and kernel settings that nodes share."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from testbed import host
from testbed.errors import TestbedError


def test_a_tree_whose_folders_vanish_during_removal_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    top = tmp_path / "portside"
    for pod in ("one", "two"):
        (top / pod / "container").mkdir(parents=True)
    scan: Callable[[Any], Iterator[Any]] = os.scandir

    def scandir(folder: Any) -> Iterator[Any]:
        if Path(folder).name == "one" and Path(folder).exists():  # its last process ends at this moment
            (Path(folder) / "container").rmdir()
            Path(folder).rmdir()
        return scan(folder)

    monkeypatch.setattr(os, "scandir", scandir)
    host._remove_cgroups(top)
    assert not top.exists()


def test_a_cgroup_that_stays_in_use_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "CGROUP_REMOVAL_SECONDS", 0)
    (tmp_path / "portside").mkdir()
    (tmp_path / "portside" / "a file, as no empty cgroup has any here").touch()
    with pytest.raises(TestbedError, match="still has processes"):
        host._remove_cgroups(tmp_path / "portside")


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in place of /proc/sys, without cgroups."""
    sysctls = tmp_path / "sys"
    for name in host.KERNEL_SETTINGS:
        (sysctls / name).parent.mkdir(parents=True, exist_ok=True)
        (sysctls / name).write_text("as it was")
    (tmp_path / "cgroups").mkdir()
    monkeypatch.setattr(host, "SYSCTLS", sysctls)
    monkeypatch.setattr(host, "CGROUPS", tmp_path / "cgroups")
    monkeypatch.setattr(host, "KUBELET_FOLDERS", (tmp_path / "kubelet",))
    return sysctls


@pytest.mark.parametrize("first_to_end", ["one", "two"])
def test_the_last_of_two_nodes_restores_the_values_before_the_first(
    machine: Path, tmp_path: Path, first_to_end: str
) -> None:
    nodes = {name: _node(tmp_path / "clusters" / name) for name in ("one", "two")}
    for node in nodes.values():
        node.remember_settings()
        _write(machine, "a kubelet's")
    nodes.pop(first_to_end).clean_up()
    assert _values(machine) == {"a kubelet's"}
    assert (tmp_path / "kubelet").exists()
    [last] = nodes.values()
    last.clean_up()
    assert _values(machine) == {"as it was"}
    assert not (tmp_path / "kubelet").exists()


def test_a_node_that_is_cleaned_up_twice_leaves_a_later_change_alone(machine: Path, tmp_path: Path) -> None:
    node = _node(tmp_path / "clusters" / "one")
    node.remember_settings()
    node.clean_up()
    _write(machine, "the administrator's")
    node.clean_up()
    assert _values(machine) == {"the administrator's"}


def _node(folder: Path) -> host.Host:
    folder.mkdir(parents=True)
    return host.Host(folder)


def _write(machine: Path, value: str) -> None:
    for name in host.KERNEL_SETTINGS:
        (machine / name).write_text(value)


def _values(machine: Path) -> set[str]:
    return {(machine / name).read_text() for name in host.KERNEL_SETTINGS}
