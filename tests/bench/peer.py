"""LiteLLM's proxy in its own Python environment: the peer that the agent API is compared with."""

from pathlib import Path

from support.virtual_environment import virtual_environment
from testbed.errors import TestbedError

# Made by `uv pip compile --python-version 3.11 --generate-hashes` from `litellm[proxy]>=1.106,<1.107`.
_LOCK = Path(__file__).with_name("litellm.txt")


def environment() -> Path:
    """Return the folder of the environment, with some 120 packages; install it if it is not in the cache.

    Raises TestbedError if the packages cannot be installed.
    """
    try:
        return virtual_environment("litellm", _LOCK)
    except TestbedError as error:
        raise TestbedError(f"{error}\nThe option --without-litellm leaves the peer out.") from error
