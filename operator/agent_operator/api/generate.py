"""`python -m agent_operator.api.generate [--check]`: write what comes from the models, and the version in charts."""

import json
import re
from pathlib import Path

import click

from agent_operator import __version__
from agent_operator.api.crd import crd
from agent_operator.api.reference import reference
from agent_operator.api.schema import Schema, draft_07
from agent_operator.api.values import values_schema, values_table, values_yaml
from agent_operator.api.yaml import to_yaml
from agent_operator.policy.admission import admission
from agent_operator.policy.settings import Policy

ROOT = Path(__file__).resolve().parents[3]
VALUES_HEADING = "## Values\n\n"


def generated_files() -> dict[str, str]:
    """Every generated file: its path below the repository's root, and its content."""
    of_agents, of_operator = values_schema(), _operator_schema()
    return {
        "helm/agent-operator/files/agentdeployments.yaml": to_yaml(crd()),
        "helm/agent/values.schema.json": json.dumps(of_agents, indent=2) + "\n",
        "docs/reference/agentdeployment.md": reference(),
        **_of_chart("helm/agent", of_agents),
        "helm/agent-operator/files/admission.yaml": to_yaml(admission()),
        "helm/agent-operator/values.schema.json": json.dumps(of_operator, indent=2, ensure_ascii=False) + "\n",
        **_of_chart("helm/agent-operator", of_operator),
    }


def _operator_schema() -> Schema:
    """The schema of this chart's values, which is written by hand but for the settings of a policy."""
    schema: Schema = json.loads(_text("helm/agent-operator/values.schema.json"))
    policies = schema["properties"]["policies"]
    policies["properties"]["allow"] = allow = draft_07(Policy)
    # Nothing may be missing where an older release's values are reused: what is not set is not judged.
    allow["required"], policies["required"] = list(allow["properties"]), list(policies["properties"])
    allow["default"] = {name: each["default"] for name, each in allow["properties"].items()}
    policies["default"] = {name: each["default"] for name, each in policies["properties"].items()}
    return schema


def _of_chart(folder: str, schema: Schema) -> dict[str, str]:
    """What of a chart comes from the schema of its values and from the version."""
    head = _text(f"{folder}/README.md").partition(VALUES_HEADING)[0]
    return {
        f"{folder}/Chart.yaml": _of_this_version(_text(f"{folder}/Chart.yaml")),
        f"{folder}/values.yaml": values_yaml(schema),
        f"{folder}/README.md": head + VALUES_HEADING + values_table(schema),
    }


def _text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


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
