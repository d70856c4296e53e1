"""Files generated from the models of AgentDeployment and of a policy, and the version in the charts."""

import json
import re
from pathlib import Path

from agent_operator import __version__
from agent_operator.api.crd import class_crd, crd
from agent_operator.api.schema import Schema, draft_07
from agent_operator.api.yaml import to_yaml
from agent_operator.policy.settings import Policy
from codegen.operator import reasons
from codegen.operator.admission import admission
from codegen.operator.class_admission import class_admission
from codegen.operator.reference import class_reference, reference
from codegen.operator.values import values_schema, values_table, values_yaml

VALUES_HEADING = "## Values\n\n"


def files(root: Path) -> dict[str, str]:
    """Return every generated file: its path below the repository's root, mapped to its content."""
    of_agents, of_operator = values_schema(), _operator_schema(root)
    return {
        "helm/agent-operator/files/agentdeployments.yaml": to_yaml(crd()),
        "helm/agent-operator/files/agentclasses.yaml": to_yaml(class_crd()),
        "helm/agent/values.schema.json": json.dumps(of_agents, indent=2) + "\n",
        "docs/reference/agentdeployment.md": reference(),
        "docs/reference/agentclass.md": class_reference(),
        **_of_reasons(root),
        **_of_chart(root, "helm/agent", of_agents),
        "helm/agent-operator/files/admission.yaml": to_yaml(admission()),
        "helm/agent-operator/files/class-admission.yaml": to_yaml(class_admission()),
        "helm/agent-operator/values.schema.json": json.dumps(of_operator, indent=2, ensure_ascii=False) + "\n",
        **_of_chart(root, "helm/agent-operator", of_operator),
    }


def _operator_schema(root: Path) -> Schema:
    """Return the schema of this chart's values, which is written by hand except for the settings of a policy."""
    schema: Schema = json.loads(_text(root / "helm/agent-operator/values.schema.json"))
    policies = schema["properties"]["policies"]
    policies["properties"]["allow"] = allow = draft_07(Policy)
    # All are required, so that none is missing when an older release's values are reused: an unset one is not checked.
    allow["required"], policies["required"] = list(allow["properties"]), list(policies["properties"])
    allow["default"] = {name: each["default"] for name, each in allow["properties"].items()}
    policies["default"] = {name: each["default"] for name, each in policies["properties"].items()}
    return schema


def _of_chart(root: Path, folder: str, schema: Schema) -> dict[str, str]:
    """Return the files of a chart that depend on the schema of its values or on the version."""
    head = _text(root / f"{folder}/README.md").partition(VALUES_HEADING)[0]
    return {
        f"{folder}/Chart.yaml": _of_this_version(_text(root / f"{folder}/Chart.yaml")),
        f"{folder}/values.yaml": values_yaml(schema),
        f"{folder}/README.md": head + VALUES_HEADING + values_table(schema),
    }


def _of_reasons(root: Path) -> dict[str, str]:
    """Return the pages that have the reasons of conditions in a part of their own."""
    conditions, guide = "docs/reference/conditions.md", "docs/how-to/troubleshoot.md"
    return {
        conditions: reasons.in_reference(_text(root / conditions)),
        guide: reasons.in_guide(_text(root / guide)),
    }


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _of_this_version(chart: str) -> str:
    """Return a Chart.yaml with the version of the distribution, which is defined only in pyproject.toml."""
    chart = re.sub(r"^version: .*$", f"version: {__version__}", chart, flags=re.MULTILINE)
    return re.sub(r"^appVersion: .*$", f'appVersion: "{__version__}"', chart, flags=re.MULTILINE)
