"""Reads the settings from all sources, and states every fault in a line."""

import re
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from agent_service.config.settings import API_KEY_NAME, CLIENT_KEYS_NAME, Settings
from agent_service.config.sources import ENV_FILE, given

# An address may hold a password, which is one of the faults that are told.
_NEVER_SHOWN = frozenset({API_KEY_NAME, CLIENT_KEYS_NAME, "ANTHROPIC_BASE_URL", "REDIS_URL", "REDIS_PASSWORD"})


class SettingsError(Exception):
    """The settings cannot be used. `faults` holds one line for each fault; none of them shows a secret."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


def load(**overrides: object) -> Settings:
    """Read the settings from all sources; `overrides` (from the command line) win over them.

    Raises:
        SettingsError: with one line for each fault.
    """
    named = {name: value for name, value in overrides.items() if value is not None}
    try:
        folder = given("SECRETS_DIR")
        # A folder that is not there is reported by the field, as a fault like any other.
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
    # It may quote what was written, which must not reach a terminal with its control characters.
    message = re.sub(r"[\x00-\x1f\x7f]+", " ", message[:1].lower() + message[1:])
    return f"{name}: {message}" + (f" (it is {shown!r:.80})" if isinstance(shown, (str, int, float)) else "")
