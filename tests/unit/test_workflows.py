"""The workflows: what they run exists, and they have no permission that they do not need."""

import re
from pathlib import Path

import pytest
import yaml

from testbed import binaries
from testbed.paths import REPOSITORY

WORKFLOWS = REPOSITORY / ".github" / "workflows"


@pytest.mark.parametrize("file", sorted(WORKFLOWS.glob("*.yaml")), ids=lambda file: file.stem)
def test_a_workflow_runs_existing_targets_with_minimal_permissions(file: Path) -> None:
    workflow = yaml.safe_load(file.read_text())
    assert workflow["permissions"] == {}
    targets = set(re.findall(r"^([a-z0-9-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
    for name, job in workflow["jobs"].items():
        assert "timeout-minutes" in job, name
        for step in job["steps"]:
            assert set(re.findall(r"\bmake (?:--silent )?([a-z0-9-]+)", step.get("run", ""))) <= targets
            assert re.fullmatch(r"[^@]+@[0-9a-f]{40}", step.get("uses", f"x@{'0' * 40}"))


def test_kind_is_tested_with_every_kubernetes_from_the_oldest_of_the_charts_to_the_newest_supported() -> None:
    jobs = yaml.safe_load((WORKFLOWS / "e2e-kind.yaml").read_text())["jobs"]
    tried = [int(node.split(".")[1]) for node in jobs["kind"]["strategy"]["matrix"]["node"]]
    chart = yaml.safe_load((REPOSITORY / "helm" / "agent" / "Chart.yaml").read_text())
    oldest = int(re.fullmatch(r">=1\.(\d+)\.0-0", chart["kubeVersion"])[1])  # type: ignore[index]
    assert tried == list(range(oldest, int(binaries.KUBERNETES.version.split(".")[1]) + 1))


def test_make_run_listens_only_on_loopback() -> None:
    recipe = (REPOSITORY / "Makefile").read_text().split("\nrun: ", 1)[1].split("\n\n", 1)[0]
    assert "API_HOST=$${API_HOST:-127.0.0.1}" in recipe


def test_the_base_image_is_pinned_by_digest() -> None:
    dockerfile = (REPOSITORY / "Dockerfile").read_text()
    [base] = re.findall(r"^ARG PYTHON_IMAGE=(.+)$", dockerfile, re.MULTILINE)
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim@sha256:[0-9a-f]{64}", base)
    stages = re.findall(r"AS (\S+)$", dockerfile, re.MULTILINE)
    assert set(re.findall(r"^FROM (\S+)", dockerfile, re.MULTILINE)) <= {"${PYTHON_IMAGE}", *stages}


def test_a_release_is_verified_by_the_workflow_and_the_tag_that_sign_it() -> None:
    page = (REPOSITORY / "docs" / "contributing" / "releasing.md").read_text()
    verified = re.findall(r"^cosign verify .*$", page, re.MULTILINE)
    assert verified
    assert all('--certificate-identity="$SIGNER"' in line for line in verified)
    assert 'SIGNER="$REPOSITORY/.github/workflows/release.yaml@refs/tags/v$VERSION"' in page
    assert "--certificate-identity-regexp" not in page
    assert yaml.safe_load((WORKFLOWS / "release.yaml").read_text())[True] == {"push": {"tags": ["v*"]}}


def test_the_page_on_releases_lists_the_tested_versions_of_kubernetes() -> None:
    page = (REPOSITORY / "docs" / "contributing" / "releasing.md").read_text()
    assert f"1.30 to {binaries.KUBERNETES.version.removeprefix('v').rpartition('.')[0]}" in page
