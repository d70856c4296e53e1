"""YAML documents, read by libyaml: PyYAML's own parser takes seconds for the definition of AgentDeployment."""

from typing import Any

import yaml


def documents(text: str) -> list[dict[str, Any]]:
    """Return the documents of a YAML text, without empty ones."""
    return [each for each in yaml.load_all(text, Loader=yaml.CSafeLoader) if each]
