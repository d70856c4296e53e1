"""The tools for a release (docs/contributing/releasing.md): packages, notes, and the check before it."""

import json
import os
import re
import subprocess
import tarfile
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import httpx
import pytest

from testbed import binaries, system
from testbed.paths import REPOSITORY
from testbed.ports import free_port

SECONDS = 30


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    """A real OCI registry on loopback; yields its address."""
    address = f"127.0.0.1:{free_port()}"
    storage = {"filesystem": {"rootdirectory": str(tmp_path / "registry")}}
    config = {"version": "0.1", "log": {"level": "error"}, "storage": storage, "http": {"addr": address}}
    (tmp_path / "registry.json").write_text(json.dumps(config))
    program = system.unpacked("docker-registry", "usr/bin/docker-registry")
    process = subprocess.Popen([program, "serve", tmp_path / "registry.json"], stdin=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + SECONDS
        while not _answers(f"http://{address}/v2/"):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        process.wait()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False).is_success
    except httpx.HTTPError:
        return False


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["make", "--silent", *arguments]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)


def test_packages_have_this_version_and_are_reproducible() -> None:
    done = make("package")
    assert done.returncode == 0, done.stderr
    archives = [Path(line) for line in done.stdout.split()]
    assert [each.name for each in archives] == [
        f"{name}-{version('portside')}.tgz" for name in ("agent", "agent-operator")
    ]
    before = [each.read_bytes() for each in archives]
    assert make("package").returncode == 0
    assert [each.read_bytes() for each in archives] == before
    for archive in archives:
        with tarfile.open(archive) as package:
            names = package.getnames()
        assert any(name.endswith("/README.md") for name in names)
        assert not [name for name in names if "_test.yaml" in name or "/ci/" in name]


def test_charts_can_be_pushed_to_a_registry_and_installed_from_there(registry: str, tmp_path: Path) -> None:
    helm = str(binaries.provide("helm")["helm"])
    environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}

    def run(*arguments: str) -> str:
        done = subprocess.run([helm, *arguments], env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    for archive in make("package").stdout.split():
        said = run("push", archive, f"oci://{registry}/charts", "--plain-http")
        # The line from which the workflow reads the digest to sign.
        assert re.search(r"^Digest: sha256:[0-9a-f]{64}$", said, re.MULTILINE)
    values = ["--set", "agent.provider=echo"]
    pulled = run(
        "template", "x", f"oci://{registry}/charts/agent", "--plain-http", "--version", version("portside"), *values
    )
    assert run("template", "x", str(REPOSITORY / "helm" / "agent"), *values) in pulled


def test_the_notes_are_only_the_section_of_the_changelog() -> None:
    done = make("release-notes", "VERSION=0.1.0")
    assert done.returncode == 0
    assert "The main job, from end to end." in done.stdout
    assert "## " not in done.stdout


def test_notes_of_an_unknown_version_are_a_clear_error() -> None:
    done = make("release-notes", "VERSION=9.9.9")
    assert done.returncode != 0
    assert "CHANGELOG.md has no section ## 9.9.9" in done.stderr


def test_missing_steps_of_a_release_are_listed_one_per_line() -> None:
    done = make("check-release", "VERSION=0.1.0")
    assert done.returncode != 0
    said = done.stderr
    assert "pyproject.toml has version" in said
    assert "helm/agent/Chart.yaml has version" in said
    assert "releases/0.1.0 already exists" in said
    assert "CHANGELOG.md" not in said


def test_an_undated_section_is_not_a_release() -> None:
    done = make("check-release", f"VERSION={version('portside')}")
    assert "set its date" in done.stderr
