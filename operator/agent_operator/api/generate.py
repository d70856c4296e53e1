"""`python -m agent_operator.api.generate [--check]`: write what comes from the models, and the version in charts."""

import json
import re
from pathlib import Path

import click

from agent_operator import __version__
from agent_operator.api.crd import crd
from agent_operator.api.reference import reference
from agent_operator.api.values import values_schema, values_yaml
from agent_operator.api.yaml import to_yaml

ROOT = Path(__file__).resolve().parents[3]
CHARTS = ("helm/agent/Chart.yaml", "helm/agent-operator/Chart.yaml")


def generated_files() -> dict[str, str]:
    """Every generated file: its path below the repository's root, and its content."""
    return {
        "helm/agent-operator/files/agentdeployments.yaml": to_yaml(crd()),
        "helm/agent/values.schema.json": json.dumps(values_schema(), indent=2) + "\n",
        "helm/agent/values.yaml": values_yaml(),
        "docs/reference/agentdeployment.md": reference(),
        **{chart: _of_this_version((ROOT / chart).read_text(encoding="utf-8")) for chart in CHARTS},
    }


def _of_this_version(chart: str) -> str:
    """A Chart.yaml with the version of the distribution, which pyproject.toml alone states."""
    chart = re.sub(r"^version: .*$", f"version: {__version__}", chart, flags=re.MULTILINE)
    return re.sub(r"^appVersion: .*$", f'appVersion: "{__version__}"', chart, flags=re.MULTILINE)


def _read(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None


@click.command()
@click.option(
    "--check", is_flag=True, help="Write nothing; name the files that are stale, and exit 1 if there are any."
)
def main(*, check: bool) -> None:
    """Write the files that are generated from the models of AgentDeployment."""
    stale = {name: text for name, text in generated_files().items() if _read(ROOT / name) != text}
    for name, text in stale.items():
        if not check:
            (ROOT / name).parent.mkdir(parents=True, exist_ok=True)
            (ROOT / name).write_text(text, encoding="utf-8")
        click.echo(f"{'Stale' if check else 'Wrote'}: {name}")
    if check and stale:
        click.echo("Run `python -m agent_operator.api.generate`, and commit what it writes.", err=True)
        raise SystemExit(1)


if __name__ == "__main__":
    main()
