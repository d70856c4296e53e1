"""Each linter finds what it should: a linter that cannot fail is not a check."""

import copy
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from lint import checkov, linters, rendered, schemas
from support.manifests import documents
from testbed import modules, paths
from testbed.definitions import FOREIGN
from testbed.errors import TestbedError

AGENT_CHART = rendered.CHARTS / "agent"
OLDEST, NEWEST = schemas.releases()


def test_the_releases_are_the_oldest_that_the_charts_support_and_that_of_the_tests() -> None:
    asked = {yaml.safe_load((chart / "Chart.yaml").read_text())["kubeVersion"] for chart in rendered.CHARTS.iterdir()}
    assert asked == {f">={OLDEST.rpartition('.')[0]}.0-0"}
    [running] = [
        line.split()[1]
        for line in (paths.TOOLS / "kubernetes" / "go.mod").read_text().splitlines()
        if line.strip().startswith("k8s.io/kubernetes v")
    ]
    assert running == f"v{NEWEST}"


def test_helm_lint_finds_a_value_unknown_to_the_chart(tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    values.write_text("agent: {provider: echo}\nreplicaz: 2\n")
    assert "replicaz" in " ".join(linters.helm_lint(AGENT_CHART, values))


def test_helm_lint_finds_a_template_that_renders_invalid_yaml(tmp_path: Path) -> None:
    chart = tmp_path / "agent"
    shutil.copytree(AGENT_CHART, chart)
    (chart / "templates" / "broken.yaml").write_text("kind: [\n")
    assert "broken.yaml" in " ".join(linters.helm_lint(chart, AGENT_CHART / "ci" / "echo-values.yaml"))


@pytest.mark.parametrize("release", [OLDEST, NEWEST])
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda spec: spec.update(replicaz=2), "replicaz"),
        (lambda spec: spec.update(replicas="two"), "replicas"),
        (lambda spec: spec.pop("selector"), "selector"),
        (lambda spec: spec["template"]["spec"]["containers"][0].update(imagePullPolcy="Always"), "imagePullPolcy"),
    ],
    ids=["unknown", "wrong type", "missing", "unknown deep down"],
)
def test_kubeconform_finds_what_a_release_does_not_accept(tmp_path: Path, release: str, change: Any, said: str) -> None:
    deployment = _deployment()
    change(deployment["spec"])
    [finding] = linters.kubeconform(release, _file(tmp_path, deployment))
    assert said in finding
    assert linters.kubeconform(release, _file(tmp_path, _deployment())) == []


def test_kubeconform_has_fields_newer_than_the_oldest_release(tmp_path: Path) -> None:
    newer = _deployment()
    newer["spec"]["template"]["spec"]["hostnameOverride"] = "boat"  # since 1.34 (KEP-4762)
    assert linters.kubeconform(NEWEST, _file(tmp_path, newer)) == []
    assert "hostnameOverride" in " ".join(linters.kubeconform(OLDEST, _file(tmp_path, newer)))


@pytest.fixture(scope="module")
def handed_out() -> list[dict[str, Any]]:
    """Every object of the charts and the samples."""
    texts = [each.text for each in (*rendered.charts(), *rendered.samples())]
    return [document for text in texts for document in documents(text) if document]


@pytest.mark.parametrize("kind", ["AgentDeployment", *FOREIGN])
def test_kubeconform_knows_the_fields_of_custom_kinds(
    tmp_path: Path, handed_out: list[dict[str, Any]], kind: str
) -> None:
    document = next(copy.deepcopy(each) for each in handed_out if each["kind"] == kind)
    assert linters.kubeconform(NEWEST, _file(tmp_path, document)) == []
    document["spec"]["wrong"] = True
    [finding] = linters.kubeconform(NEWEST, _file(tmp_path, document))
    assert "wrong" in finding


def test_kubeconform_finds_a_kind_without_a_schema(tmp_path: Path) -> None:
    unknown = {"apiVersion": "example.com/v1", "kind": "Boat", "metadata": {"name": "boat"}}
    assert "could not find schema for Boat" in " ".join(linters.kubeconform(NEWEST, _file(tmp_path, unknown)))


def test_checkov_finds_unsafe_objects_and_reports_an_acceptance_without_a_finding(tmp_path: Path) -> None:
    deployment = _deployment()
    deployment["spec"]["template"]["spec"]["containers"][0]["securityContext"] = {"privileged": True}
    _file(tmp_path, deployment)
    (tmp_path / "Dockerfile").write_text("FROM python:3.13-slim\nADD https://example.com/a /a\nUSER root\n")
    workflow = tmp_path / ".github" / "workflows" / "bad.yaml"
    workflow.parent.mkdir(parents=True)
    workflow.write_text(BAD_WORKFLOW)
    findings = checkov.scan(tmp_path)
    assert {"CKV_K8S_16", "CKV_DOCKER_4", "CKV_DOCKER_8", "CKV2_GHA_1"} <= {each.check for each in findings}
    left = checkov.judged(findings)
    assert any(each.startswith("CKV_K8S_16 ") for each in left)
    assert "accepted.yaml: CKV_K8S_38 of Deployment\\.\\S+\\.agent-operator$ is no longer found: drop it" in left


def test_checkov_reports_a_folder_that_it_cannot_read(tmp_path: Path) -> None:
    with pytest.raises(TestbedError, match="checkov could not read"):
        checkov.scan(tmp_path)


def test_every_accepted_finding_has_a_reason() -> None:
    for entry in yaml.safe_load(checkov.ACCEPTED.read_text()):
        assert set(entry) == {"check", "of", "why"}
        assert entry["why"]


def test_hadolint_finds_a_fault_in_a_dockerfile(tmp_path: Path) -> None:
    dockerfile = tmp_path / "Dockerfile"
    dockerfile.write_text("FROM debian:13\nRUN cd /tmp && apt-get install curl\n")
    assert "DL3008" in " ".join(linters.hadolint(dockerfile))


def test_actionlint_finds_a_step_that_does_not_exist(tmp_path: Path) -> None:
    assert 'property "none" is not defined' in " ".join(linters.actionlint(_workflow(tmp_path)))


def test_zizmor_finds_untrusted_input_in_a_script(tmp_path: Path) -> None:
    assert "template-injection" in " ".join(linters.zizmor(_workflow(tmp_path)))


def test_a_module_other_than_the_pinned_one_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pins = tmp_path / "modules.txt"
    pins.write_text("sigs.k8s.io/gateway-api v1.6.3 h1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n")
    monkeypatch.setattr(modules, "PINS", pins)
    with pytest.raises(TestbedError, match="is not the one that"):
        modules.definitions(*FOREIGN["HTTPRoute"])


BAD_WORKFLOW = """
name: bad
on: pull_request_target
permissions: write-all
jobs:
  one:
    runs-on: ubuntu-latest
    steps:
      - run: echo ${{ github.event.pull_request.title }}
      - run: echo ${{ steps.none.outputs.x }}
"""


def _workflow(folder: Path) -> Path:
    file = folder / "bad.yaml"
    file.write_text(BAD_WORKFLOW)
    return file


def _deployment() -> dict[str, Any]:
    labels = {"app": "boat"}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "boat", "labels": labels},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "boat", "image": "nginx:1.29-alpine"}]},
            },
        },
    }


def _file(folder: Path, document: dict[str, Any]) -> Path:
    file = folder / "object.yaml"
    file.write_text(yaml.safe_dump(document))
    return file
