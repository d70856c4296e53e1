"""The sources of settings that are read without pydantic."""

import os

from dotenv import dotenv_values

ENV_FILE = ".env"
# Editors on Windows write a byte order mark, which would otherwise be part of the first name.
ENV_FILE_ENCODING = "utf-8-sig"


def given(name: str) -> str | None:
    """Return the raw value of a setting from the environment or the `.env` file; None if neither sets it."""
    for names in (os.environ, dotenv_values(ENV_FILE, encoding=ENV_FILE_ENCODING)):
        for key, value in names.items():
            if key.upper() == name and value and value.strip():
                return value.strip()
    return None
