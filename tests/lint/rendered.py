"""What users get from our charts and manifests: each rendering is a named text of YAML documents."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from testbed import binaries, paths
from testbed.errors import TestbedError

CHARTS = paths.REPOSITORY / "helm"
MANIFESTS = paths.REPOSITORY / "manifests"
SAMPLES = MANIFESTS / "samples"
GITOPS = MANIFESTS / "gitops"
# The namespace of objects that are rendered without one, as `-n` sets it.
NAMESPACE = "agents"
AGENT_OPERATOR = Path(sys.executable).with_name("agent-operator")


@dataclass(frozen=True)
class Rendering:
    """One variant of what we ship, such as `chart-agent-production`."""

    name: str
    make: Callable[[], str]

    @property
    def text(self) -> str:
        """Render it. Raises TestbedError with the output of the program that fails."""
        return self.make()


def everything() -> list[Rendering]:
    """Return every rendering: charts with each set of values, the install, overlays, the samples and their objects."""
    return [*charts(), *kustomizations(), *samples(), *objects_of_samples()]


def value_sets(chart: Path) -> list[Path]:
    """Return the files `ci/*-values.yaml` of a chart: the convention of chart-testing for values to test it with."""
    return sorted((chart / "ci").glob("*-values.yaml"))


def charts() -> list[Rendering]:
    """Return both charts with each of their sets of values."""
    return [
        Rendering(
            f"chart-{chart.name}-{file.stem.removesuffix('-values')}", partial(template, chart, "--values", str(file))
        )
        for chart in sorted(CHARTS.iterdir())
        for file in value_sets(chart)
    ]


def template(chart: Path, *arguments: str) -> str:
    """Render a chart as a release of the same name. Raises TestbedError with Helm's output if it fails."""
    return _run("helm", "template", chart.name, str(chart), "--namespace", NAMESPACE, *arguments)


def kustomizations() -> list[Rendering]:
    """Return the install and each overlay."""
    folders = [MANIFESTS / "install", *sorted((MANIFESTS / "overlays").iterdir())]
    return [Rendering(f"kustomize-{folder.name}", partial(kustomize, folder)) for folder in folders]


def kustomize(folder: Path) -> str:
    """Build a folder with kustomize, as `kubectl apply -k` does."""
    return _run("kubectl", "kustomize", str(folder))


def samples() -> list[Rendering]:
    """Return the samples unchanged."""
    files = [*sorted(SAMPLES.glob("*.yaml")), *sorted(GITOPS.glob("*.yaml"))]
    return [Rendering(f"sample-{file.stem}", file.read_text) for file in files]


def objects_of_samples() -> list[Rendering]:
    """Return the objects that the operator creates for each sample's agents."""
    return [Rendering(f"objects-{file.stem}", partial(render, file)) for file in sorted(SAMPLES.glob("*.yaml"))]


def render(file: Path) -> str:
    """Return the objects of the AgentDeployments in a file."""
    command = [str(AGENT_OPERATOR), "render", "--namespace", NAMESPACE, "-f", str(file)]
    return _output("agent-operator render", subprocess.run(command, capture_output=True, text=True, check=False))


def _run(program: str, *arguments: str) -> str:
    command = [str(binaries.provide(program)[program]), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return _output(f"{program} {' '.join(arguments)}", done)


def _output(what: str, done: subprocess.CompletedProcess[str]) -> str:
    if done.returncode != 0:
        raise TestbedError(f"`{what}` ended with code {done.returncode}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout
