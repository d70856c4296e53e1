"""What people get out of our charts and manifests: each rendering is one text of YAML documents under a name."""

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
# A namespace for what is rendered with none of its own, as `-n` gives it.
NAMESPACE = "agents"
AGENT_OPERATOR = Path(sys.executable).with_name("agent-operator")


@dataclass(frozen=True)
class Rendering:
    """One face of what we hand out, such as `chart-agent-production`."""

    name: str
    make: Callable[[], str]

    @property
    def text(self) -> str:
        """Render it. Raises TestbedError with the words of the program that cannot."""
        return self.make()


def everything() -> list[Rendering]:
    """Every rendering: charts with each set of values, the install, its overlays, the samples and what they become."""
    return [*charts(), *kustomizations(), *samples(), *objects_of_samples()]


def value_sets(chart: Path) -> list[Path]:
    """The files `ci/*-values.yaml` of a chart: the convention of chart-testing for the values to try it with."""
    return sorted((chart / "ci").glob("*-values.yaml"))


def charts() -> list[Rendering]:
    """Both charts with each of their sets of values."""
    return [
        Rendering(
            f"chart-{chart.name}-{file.stem.removesuffix('-values')}", partial(template, chart, "--values", str(file))
        )
        for chart in sorted(CHARTS.iterdir())
        for file in value_sets(chart)
    ]


def template(chart: Path, *arguments: str) -> str:
    """Render a chart as a release of its own name. Raises TestbedError with Helm's words when it does not render."""
    return _run("helm", "template", chart.name, str(chart), "--namespace", NAMESPACE, *arguments)


def kustomizations() -> list[Rendering]:
    """The install and each overlay."""
    folders = [MANIFESTS / "install", *sorted((MANIFESTS / "overlays").iterdir())]
    return [Rendering(f"kustomize-{folder.name}", partial(kustomize, folder)) for folder in folders]


def kustomize(folder: Path) -> str:
    """Build a folder with kustomize, as `kubectl apply -k` does."""
    return _run("kubectl", "kustomize", str(folder))


def samples() -> list[Rendering]:
    """The samples as they stand."""
    files = [*sorted(SAMPLES.glob("*.yaml")), *sorted(GITOPS.glob("*.yaml"))]
    return [Rendering(f"sample-{file.stem}", file.read_text) for file in files]


def objects_of_samples() -> list[Rendering]:
    """The objects that the operator makes of each sample's agents."""
    return [Rendering(f"objects-{file.stem}", partial(render, file)) for file in sorted(SAMPLES.glob("*.yaml"))]


def render(file: Path) -> str:
    """Give the objects of the AgentDeployments in a file."""
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
