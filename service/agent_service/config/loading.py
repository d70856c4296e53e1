"""Read the settings from all sources, and report each fault in one line."""

import re
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from agent_service.config.providers import SECRET_NAMES
from agent_service.config.settings import CLIENT_KEYS_NAME, Settings
from agent_service.config.sources import ENV_FILE, given

# An address may contain a password, which is itself one of the reported faults.
_NEVER_SHOWN = SECRET_NAMES | {
    CLIENT_KEYS_NAME,
    "ANTHROPIC_BASE_URL",
    "BEDROCK_BASE_URL",
    "VERTEX_BASE_URL",
    "FOUNDRY_BASE_URL",
    "RUNTIME_URL",
    "REDIS_URL",
    "REDIS_PASSWORD",
}


class SettingsError(Exception):
    """The settings cannot be used. `faults` holds one line per fault; no line shows a secret."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


def load(**overrides: object) -> Settings:
    """Return the settings from all sources; `overrides` (from the command line) take precedence over them.

    Raises:
        SettingsError: if the settings have faults; it has one line per fault.
    """
    named = {name: value for name, value in overrides.items() if value is not None}
    try:
        folder = given("SECRETS_DIR")
        # The field itself reports a missing folder, as a fault like any other.
        return Settings(_secrets_dir=folder if folder and Path(folder).is_dir() else None, **named)  # type: ignore[arg-type]
    except ValidationError as error:
        lines = {line for fault in error.errors(include_url=False) for line in _line(fault).splitlines()}
        raise SettingsError(sorted(lines)) from None
    except (OSError, UnicodeDecodeError) as error:
        where = getattr(error, "filename", None) or f"{ENV_FILE} or a file in SECRETS_DIR"
        reason = getattr(error, "strerror", None) or "is not UTF-8 text"
        raise SettingsError([f"{where}: cannot be read: {reason}"]) from None


def _line(fault: Any) -> str:
    message = str(fault["msg"]).removeprefix("Value error, ")
    if not fault["loc"]:
        return message
    name = str(fault["loc"][0]).upper()
    name = {"PORT": "API_PORT (or PORT)", "API_PORT": "API_PORT (or PORT)"}.get(name, name)
    shown = fault["input"] if name not in _NEVER_SHOWN else None
    # The message may quote the value, whose control characters must not reach a terminal.
    message = re.sub(r"[\x00-\x1f\x7f]+", " ", message[:1].lower() + message[1:])
    return f"{name}: {message}" + (f" (it is {shown!r:.80})" if isinstance(shown, (str, int, float)) else "")
