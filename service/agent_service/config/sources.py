"""The sources of settings that are looked at besides pydantic."""

import os

from dotenv import dotenv_values

ENV_FILE = ".env"
# Editors on Windows put a mark at the beginning, which would be part of the first name.
ENV_FILE_ENCODING = "utf-8-sig"


def given(name: str) -> str | None:
    """Give a setting's raw value from the environment or the `.env` file."""
    for names in (os.environ, dotenv_values(ENV_FILE, encoding=ENV_FILE_ENCODING)):
        for key, value in names.items():
            if key.upper() == name and value and value.strip():
                return value.strip()
    return None
