"""The linters: each returns its findings, one line per finding."""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lint import checkov, rendered, schemas
from testbed import binaries, paths

DOCKERFILE = paths.REPOSITORY / "Dockerfile"
WORKFLOWS = paths.REPOSITORY / ".github" / "workflows"
_BIN = Path(sys.executable).parent
_SECONDS = 300


def helm_lint(chart: Path, values: Path) -> list[str]:
    """Return what `helm lint --strict` reports of a chart with a set of values."""
    return _findings([_tool("helm"), "lint", "--strict", "--quiet", chart, "--values", values])


def kubeconform(release: str, *files: Path) -> list[str]:
    """Return what is invalid for a Kubernetes release, by strict schemas; a kind without a schema is a finding too."""
    options = ["-strict", "-output", "json", "-kubernetes-version", release, "-schema-location", schemas.location()]
    done = _run([_tool("kubeconform"), *options, *files])
    # It uses only our schemas: it does not download missing ones.
    said: list[dict[str, Any]] = (
        json.loads(done.stdout)["resources"] if done.stdout.strip() else [{"msg": done.stderr.strip()}]
    )
    return [
        f"Kubernetes {release}: {Path(each.get('filename', '')).name} {each.get('kind', '')} {each.get('name', '')}: "
        f"{_reasons(each)}"
        for each in said
    ]


def hadolint(file: Path) -> list[str]:
    """Return what hadolint reports of a Dockerfile."""
    return _findings([_BIN / "hadolint", "--no-color", "--failure-threshold", "style", file])


def actionlint(*files: Path) -> list[str]:
    """Return what actionlint reports of workflows, without calling other programs on PATH such as shellcheck."""
    return _findings([_tool("actionlint"), "-no-color", "-oneline", "-shellcheck=", "-pyflakes=", *files])


def zizmor(*files: Path) -> list[str]:
    """Return what zizmor reports of the security of workflows, by its offline audits, at every level."""
    # One line per finding, in the format that GitHub reads (zizmor, "Output formats").
    return _findings([_BIN / "zizmor", "--offline", "--no-progress", "--quiet", "--format", "github", *files])


def all_findings(say: Callable[[str], None]) -> list[str]:
    """Run every linter over all of our files, report progress with `say`, and return the findings."""
    found: list[str] = []

    def note(linter: str, findings: Sequence[str]) -> None:
        say(f"    {linter}: {len(findings) or 'no'} finding{'s' if len(findings) > 1 else ''}")
        found.extend(f"{linter}: {each}" for each in findings)

    for chart in sorted(rendered.CHARTS.iterdir()):
        for values in rendered.value_sets(chart):
            note(f"helm lint {chart.name} {values.stem}", helm_lint(chart, values))
    workflows = sorted(WORKFLOWS.glob("*.yml")) + sorted(WORKFLOWS.glob("*.yaml"))
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        files = written(rendered.everything(), folder / "kubernetes")
        for release in schemas.releases():
            note(f"kubeconform {release} ({len(files)} files)", kubeconform(release, *files))
        shutil.copy(DOCKERFILE, folder)
        shutil.copytree(WORKFLOWS, folder / ".github" / "workflows")
        note("checkov", checkov.judged(checkov.scan(folder)))
    note("hadolint", hadolint(DOCKERFILE))
    note(f"actionlint ({len(workflows)} files)", actionlint(*workflows))
    note("zizmor", zizmor(*workflows))
    return found


def written(renderings: list[rendered.Rendering], folder: Path) -> list[Path]:
    """Write each rendering to a file of its name."""
    folder.mkdir(parents=True)
    files = [folder / f"{each.name}.yaml" for each in renderings]
    for file, each in zip(files, renderings, strict=True):
        file.write_text(each.text)
    return files


def _reasons(result: dict[str, Any]) -> str:
    if errors := result.get("validationErrors"):
        return "; ".join(f"{each['path'] or '/'} {each['msg']}" for each in errors)
    return str(result.get("msg"))


def _tool(name: str) -> str:
    return str(binaries.provide(name)[name])


def _findings(command: Sequence[str | Path]) -> list[str]:
    """Return the lines that a program prints when it fails."""
    done = _run(command)
    if done.returncode == 0:
        return []
    return [line for line in (done.stdout + done.stderr).splitlines() if line.strip()] or [f"code {done.returncode}"]


def _run(command: Sequence[str | Path]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=paths.REPOSITORY, capture_output=True, text=True, timeout=_SECONDS, check=False)
