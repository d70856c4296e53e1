"""Where programs come from when something is missing, broken or blocking: tested from outside, through the command."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from testbed import base_image, binaries, compiling, paths, wheels
from testbed.errors import TestbedError
from testbed.process import running_for


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache for this file alone, in which Go is set up from scratch."""
    return tmp_path_factory.mktemp("cache")


def test_without_go_it_is_installed_from_its_wheel_and_the_build_works(cache: Path) -> None:
    done = _tools(cache, "pause", PATH=_path_without_go())
    assert done.returncode == 0, done.stderr
    assert "Getting Go" in done.stderr
    assert os.access(done.stdout.strip(), os.X_OK)
    again = _tools(cache, "pause", PATH=_path_without_go())
    assert (again.returncode, again.stdout, again.stderr) == (0, done.stdout, "")


def test_leftovers_of_a_killed_build_are_not_used_as_a_program(cache: Path) -> None:
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


def test_without_a_network_the_error_has_the_remedy(cache: Path) -> None:
    done = _tools(cache, "etcd", PATH=_path_without_go(), GOPROXY="off")
    assert done.returncode == 1
    assert "etcd could not be built" in done.stderr
    assert "KUBEBUILDER_ASSETS" in done.stderr
    assert "Traceback" not in done.stderr


def test_without_a_network_and_without_go_the_error_has_the_remedy(tmp_path: Path) -> None:
    nowhere = {"PIP_INDEX_URL": "http://127.0.0.1:9/", "PIP_RETRIES": "0", "PIP_CONFIG_FILE": os.devnull}
    done = _tools(tmp_path, "etcd", PATH=_path_without_go(), **nowhere)
    assert done.returncode == 1
    assert "Go could not be installed from its wheel" in done.stderr
    assert "Traceback" not in done.stderr


def test_without_the_wheel_of_a_program_it_is_built(tmp_path: Path) -> None:
    nowhere = {"PIP_INDEX_URL": "http://127.0.0.1:9/", "PIP_RETRIES": "0", "PIP_CONFIG_FILE": os.devnull}
    done = _tools(tmp_path, "helm", GOPROXY="off", **nowhere)
    assert done.returncode == 1
    assert "helm could not be downloaded as a wheel, so it is built" in done.stderr
    assert "helm could not be built" in done.stderr


@pytest.mark.parametrize("wheel", wheels.WHEELS, ids=lambda wheel: wheel.program)
def test_a_program_comes_from_its_wheel_in_the_pinned_version(wheel: wheels.Wheel, cache: Path) -> None:
    if not wheel.fits:
        assert wheel.program in {name for family in binaries.FAMILIES for name in family.programs}
        return
    done = _tools(cache, wheel.program, PATH=_path_without_go())
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()) == cache / "bin" / wheel.cache.name / wheel.program
    assert not list(cache.glob("bin/*.partial"))


def test_two_processes_that_need_the_same_program_build_it_once(tmp_path: Path) -> None:
    both = [_start(tmp_path, "pause") for _ in range(2)]
    ends = [each.communicate(timeout=300) for each in both]
    assert [each.returncode for each in both] == [0, 0], ends
    assert ends[0][0] == ends[1][0]
    assert sum("Compiling pause" in errors for _, errors in ends) == 1


def test_an_interrupted_build_leaves_no_compiler_running_and_no_partial_program(tmp_path: Path) -> None:
    building = _start(tmp_path, "actionlint", "glua", TMPDIR=str(_folder(tmp_path / "tmp")))
    assert building.stderr is not None
    try:
        for line in building.stderr:
            if "Compiling" in line:
                break
        _await(lambda: any("/compile" in command for command in running_for(tmp_path).values()))
        building.send_signal(signal.SIGINT)
        _, errors = building.communicate(timeout=60)
    finally:
        building.kill()
        building.wait()
    assert building.returncode == 130, errors
    assert "Traceback" not in errors
    _await(lambda: not running_for(tmp_path))
    assert not list(tmp_path.glob("bin/*.partial"))


def test_a_failed_build_stops_the_others_and_is_the_one_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PORTSIDE_CACHE", str(tmp_path / "cache"))
    broken = _family(tmp_path / "broken", "package main\n\nfunc main() { undefined() }\n")
    others = [
        _family(tmp_path / f"other{number}", 'package main\n\nimport "strings"\n\nfunc main() { strings.Fields("") }\n')
        for number in range(2)
    ]
    with pytest.raises(TestbedError, match="undefined: undefined"):
        compiling.build([(each, ["it"]) for each in (others[0], broken, others[1])])
    assert not running_for(tmp_path)
    assert not list(tmp_path.rglob("*.partial"))
    assert not (broken.cache / "it").exists()


def test_programs_in_kubebuilder_assets_are_used_unchanged(tmp_path: Path) -> None:
    etcd = tmp_path / "etcd"
    etcd.write_text("#!/bin/sh\n")
    etcd.chmod(0o755)
    done = _tools(tmp_path / "cache", "etcd", KUBEBUILDER_ASSETS=str(tmp_path))
    assert (done.returncode, done.stdout.strip()) == (0, str(etcd))


@pytest.mark.parametrize("family", binaries.FAMILIES, ids=lambda family: family.folder)
def test_the_cache_distinguishes_a_changed_pin_from_the_old_one(family: binaries.Family, tmp_path: Path) -> None:
    copy = tmp_path / family.folder
    shutil.copytree(family.source, copy)
    (copy / "go.sum").write_text((copy / "go.sum").read_text() + "\n")
    changed = binaries.Family(folder=str(copy), programs=family.programs, module=family.module)
    assert changed.cache.name != family.cache.name


def _family(folder: Path, source: str) -> binaries.Family:
    _folder(folder)
    (folder / "go.mod").write_text("module example.org/it\n\ngo 1.24\n")
    (folder / "main.go").write_text(source)
    return binaries.Family(folder=str(folder), programs={"it": "."}, module="example.org/it")


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


def _await(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _start(cache: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    """Start `python -m testbed tools` with a cache of its own."""
    own = {"PORTSIDE_CACHE": str(cache), "PYTHONPATH": str(paths.REPOSITORY / "dev")}
    inherited = {key: value for key, value in os.environ.items() if key != "KUBEBUILDER_ASSETS"}
    return subprocess.Popen(
        [sys.executable, "-m", "testbed", "tools", *arguments],
        env=inherited | own | environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _tools(cache: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run it to completion."""
    started = _start(cache, *arguments, **environment)
    try:
        output, errors = started.communicate(timeout=600)
    finally:
        started.kill()
    return subprocess.CompletedProcess(started.args, started.returncode, output, errors)


def _path_without_go() -> str:
    folders = os.environ["PATH"].split(":")
    return ":".join(folder for folder in folders if not (Path(folder) / "go").exists())


def test_a_failed_download_of_a_package_is_retried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "bin" / "debootstrap"
    program.parent.mkdir()
    attempts = tmp_path / "attempts"
    program.write_text(
        '#!/bin/sh\nfor root; do :; done\n[ -z "$(ls -A "$root")" ] || exit 3\ntouch "$root/part"\n'
        f'echo >> {attempts}\n[ "$(wc -l < {attempts})" -ge "$NEEDED" ] && touch "$root/whole"\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")

    monkeypatch.setenv("NEEDED", "2")
    base_image.bootstrap(tmp_path / "root", ("python3",), tmp_path / "log")
    assert (tmp_path / "root" / "whole").exists()
    assert len(attempts.read_text()) == 2

    attempts.unlink()
    monkeypatch.setenv("NEEDED", "9")
    with pytest.raises(TestbedError, match="Building the images failed"):
        base_image.bootstrap(tmp_path / "other", ("python3",), tmp_path / "log")
    assert len(attempts.read_text()) == base_image.ATTEMPTS
