"""The reference of the settings."""

import os
from pathlib import Path
from typing import Any

from pydantic import AliasChoices, SecretStr
from pydantic.fields import FieldInfo

from agent_service.config.settings import Settings
from codegen import markdown
from codegen.markdown import code
from codegen.service.schema import Schema, type_text

_ABOUT = (
    "Each is an environment variable, a line of a `.env` file, or a file in the folder that `SECRETS_DIR` names; an "
    "empty value counts as unset. [Settings](../explanation/settings.md) explains how these work together. The value "
    "of a *secret* is never shown, neither in a log nor in an error."
)


def reference() -> str:
    """Return the page, in Markdown."""
    schemas = Settings.model_json_schema(by_alias=False)["properties"]
    rows = [_row(name, field, schemas[name]) for name, field in Settings.model_fields.items()]
    return markdown.page(
        [
            "# Settings of the agent API",
            _ABOUT,
            markdown.table(["setting", "value", "default", "description"], rows),
        ]
    )


def _row(name: str, field: FieldInfo, schema: Schema) -> list[str]:
    alias = field.validation_alias
    names = [str(choice) for choice in alias.choices] if isinstance(alias, AliasChoices) else [name.upper()]
    return [" or ".join(code(one) for one in names), _value(field, schema), _default(field), field.description or ""]


def _value(field: FieldInfo, schema: Schema) -> str:
    if "SecretStr" in str(field.annotation):
        return "secret"
    # The empty cell for the default already shows that the setting is optional.
    choice = next(choice for choice in schema.get("anyOf", [schema]) if choice.get("type") != "null")
    kind = type_text(choice)
    return {"boolean": "`true` or `false`", "list of string": "list", "map of string": "JSON object"}.get(kind, kind)


def _default(field: FieldInfo) -> str:
    default: Any = field.get_default(call_default_factory=True)
    if default is None or default in ((), {}) or isinstance(default, SecretStr):
        return ""
    if isinstance(default, bool):
        return code(str(default).lower())
    if isinstance(default, Path):
        # The path as users write it, not as it is on the machine that generated this page.
        base = Path(os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state"))
        return code(Path("~/.local/state") / default.relative_to(base) if default.is_relative_to(base) else default)
    return code(f"{default:g}" if isinstance(default, float) else default)
