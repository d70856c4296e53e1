"""Checks of the values of settings. Pure."""

import ipaddress
import json
import re

LONGEST_SYSTEM_PROMPT = 100_000

# A key is sent in an HTTP header (RFC 9110, 5.5): visible ASCII only, so that a stray line feed cannot break the call.
_KEY_SHAPE = re.compile(r"[\x21-\x7e]+")

# RFC 1123, 2.1, plus the `_` that Docker and others allow; `*` alone, or as the first label.
_HOST_SHAPE = re.compile(r"\*|(\*\.)?[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*")


def unquoted(value: str) -> str:
    """Return the value; raise ValueError if it is in quotes."""
    # `docker run --env-file` does not remove quotes: it takes a line as it is.
    if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
        raise ValueError("is in quotes, which are part of the value here: remove them")
    return value


def check_with_yarl(address: str) -> None:
    """Raise ValueError if yarl, the library that will use the address, cannot parse it."""
    # Not at the top: an agent that calls no model API does not load it.
    import yarl  # noqa: PLC0415

    try:
        yarl.URL(address)
    except ValueError:
        raise ValueError("cannot be used as an address: write it as https://host:port/path") from None


def check_with_redis_py(address: str) -> None:
    """Raise ValueError if redis-py, the library that will use the address, cannot use it."""
    # Not at the top: only an agent with a configured Redis has such an address.
    from redis.asyncio import Redis  # noqa: PLC0415

    try:
        connection: object = Redis.from_url(address).connection_pool.make_connection()  # type: ignore[no-untyped-call]
        certificates = getattr(connection, "ssl_context", None)
        if certificates is not None:
            certificates.get()
    except OSError:
        raise ValueError("names a file of certificates or keys that cannot be read or used") from None
    except Exception:
        # Any error here would recur with each command. Its message may quote a password.
        raise ValueError("has an option whose value cannot be used; check the options after the `?`") from None


def valid_service_account_key(raw: str) -> str:
    """Return the content of the JSON file of a Google service account's key; raise ValueError if it is none."""
    try:
        found = json.loads(raw)
        usable = all(isinstance(found[name], str) for name in ("client_email", "private_key", "private_key_id"))
    except (ValueError, LookupError, TypeError, RecursionError):
        usable = False
    if not usable:
        raise ValueError("must be the content of the JSON file that Google Cloud creates for a service account's key")
    return raw


def valid_system_prompt(raw: str) -> str | None:
    """Return the system prompt, or None if it is only white space, which makes the model API refuse every request.

    Raises:
        ValueError: if the prompt is too long.
    """
    if len(raw) > LONGEST_SYSTEM_PROMPT:
        raise ValueError(f"has more than {LONGEST_SYSTEM_PROMPT} characters")
    return raw if raw.strip() else None


def valid_host(raw: str) -> str:
    """Return a name or an address of ALLOWED_HOSTS in its normal form for comparison: lower case, no brackets.

    Raises:
        ValueError: if no request can have this host.
    """
    host = raw.strip("[]").lower().removesuffix(".")
    try:
        return ipaddress.ip_address(host).compressed
    except ValueError:
        if not _HOST_SHAPE.fullmatch(host):
            raise ValueError(
                f"'{raw:.80}' is not a host name; write it without scheme and port, such as agent.example.com"
            ) from None
        return host


def valid_key(raw: str) -> str:
    """Return the key without surrounding white space.

    Raises:
        ValueError: if the key is empty or cannot be sent in a header. The message does not show it.
    """
    key = raw.strip()
    if not _KEY_SHAPE.fullmatch(key):
        raise ValueError(
            "is empty, or contains characters that a key cannot have (white space, control or non-ASCII characters)"
        )
    return key
