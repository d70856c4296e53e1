"""Normalize addresses that users write, and refuse invalid ones with a reason. Pure.

An address may contain a password, so no message quotes an address.

The agent service and the operator each have a copy of this file, because their images do not contain each other's
code. The service reads the addresses; the operator's tools warn of addresses that the service would refuse.
"""

import ipaddress
import re
from urllib.parse import parse_qsl, unquote, urlsplit, urlunsplit

# The path that the client of the model API appends to its base address.
_API_PATH = re.compile(r"(/v1(/messages(/count_tokens)?)?)$")

# Options of a Redis address (redis-py, "from_url") that leave replies and timeouts as the agent needs them.
REDIS_OPTIONS = frozenset(
    {
        "client_name",
        "db",
        "health_check_interval",
        "password",
        "retry_on_timeout",
        "socket_connect_timeout",
        "socket_keepalive",
        "socket_timeout",
        "ssl_ca_certs",
        "ssl_ca_data",
        "ssl_ca_path",
        "ssl_cert_reqs",
        "ssl_certfile",
        "ssl_check_hostname",
        "ssl_ciphers",
        "ssl_keyfile",
        "ssl_min_version",
        "ssl_password",
        "username",
    }
)
_LONGEST_WAIT_SECONDS = 3600

_REDIS_FORM = "must look like redis://host:6379/0, rediss://user:password@host:6379/0 or unix:///path"


def http_address(raw: str) -> str:
    """Return the address of an HTTP server without a trailing slash.

    Args:
        raw: the address as the user wrote it; surrounding white space is removed.

    Raises:
        ValueError: if the address is invalid; the message explains how to correct it.
    """
    text = _one_line(raw)
    if not re.match(r"https?://", text, re.IGNORECASE):
        raise ValueError("must be an address that begins with http:// or https://")
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise ValueError("must look like https://host or https://host:port/path, with a port up to 65535") from None
    if "@" in parts.netloc:
        raise ValueError("must not contain a user name or password")
    _valid_host(host)
    if port == 0 or parts.netloc.endswith(":"):
        raise ValueError("must have a port from 1 to 65535 after the colon, or no colon")
    if "?" in text or "#" in text:
        raise ValueError("must end with the path: remove the `?` or `#` and everything after it")
    return urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/"), "", ""))


def model_api_address(raw: str) -> tuple[str, str]:
    """Return the base address of a model API, and the suffix that was removed because it is the API's own path.

    Raises:
        ValueError: as for `http_address`.
    """
    address = http_address(raw)
    left_out = _API_PATH.search(urlsplit(address).path)
    if left_out is None:
        return address, ""
    return address[: -len(left_out[0])].rstrip("/"), left_out[0]


def runtime_address(raw: str) -> str:
    """Return the address of a runtime: scheme, host and port.

    Raises:
        ValueError: as for `http_address`, or if the address has a path.
    """
    address = http_address(raw)
    if urlsplit(address).path:
        raise ValueError("must end with the host or the port: set the path in RUNTIME_PATH")
    return address


def host_name(raw: str) -> str:
    """Return a host name or IP address; an IPv6 address without its brackets.

    Raises:
        ValueError: if the host is invalid; the message explains how to correct it.
    """
    text = _one_line(raw)
    if "://" in text or "/" in text or "@" in text:
        raise ValueError("must contain only a host: set an address in REDIS_URL instead")
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if ":" in bare and not _is_ip(bare):
        raise ValueError("must contain only a host: set the port in REDIS_PORT")
    _valid_host(bare)
    return bare


def redis_address(raw: str) -> str:
    """Return the address of a Redis server in the form that redis-py takes.

    Raises:
        ValueError: if the address is invalid; the message explains how to correct it.
    """
    text = _one_line(raw)
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError(_REDIS_FORM) from None
    if parts.scheme not in {"redis", "rediss", "unix"}:
        raise ValueError(_REDIS_FORM)
    if parts.scheme == "unix":
        if not parts.path:
            raise ValueError(_REDIS_FORM)
    else:
        if not host or port == 0 or parts.fragment:
            # `#`, `/` and `?` in a password end the part of the address that contains the password.
            raise ValueError(
                f"{_REDIS_FORM}; in a password, write `#`, `/`, `?`, `@` and `%` as %23, %2F, %3F, %40 and %25"
            )
        _valid_host(unquote(host))
        if not re.fullmatch(r"/?[0-9]*/?", parts.path):
            raise ValueError("must have a database number after the slash, such as redis://host:6379/0")
    _check_options(parts.scheme, parts.query)
    return text


def _check_options(scheme: str, query: str) -> None:
    options = dict(parse_qsl(query, keep_blank_values=True))
    unknown = sorted(options.keys() - REDIS_OPTIONS)
    if unknown:
        # The option is not quoted: it could be the part of a password that follows a `?`.
        raise ValueError(f"has an option that is not one of {', '.join(sorted(REDIS_OPTIONS))}")
    if scheme != "rediss" and any(name.startswith("ssl_") for name in options):
        raise ValueError("has TLS options, which require an address that begins with rediss://")
    if not re.fullmatch(r"[0-9]+", options.get("db", "0")):
        raise ValueError("must have a number as its option db")
    for name in ("socket_timeout", "socket_connect_timeout", "health_check_interval"):
        if not re.fullmatch(r"[0-9]+(\.[0-9]+)?", options.get(name, "1")) or not (
            0 < float(options.get(name, "1")) <= _LONGEST_WAIT_SECONDS
        ):
            raise ValueError(f"must have seconds above 0 and up to {_LONGEST_WAIT_SECONDS} as its option {name}")


def _one_line(raw: str) -> str:
    text = raw.strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        raise ValueError("is in quotes, which are part of the value here: remove them")
    # Parsers remove some of these characters silently, and would then use another address.
    if re.search(r"[\s\x00-\x1f\x7f\\]", text):
        raise ValueError("must not contain white space, line breaks, backslashes or control characters: remove them")
    return text


def _valid_host(host: str) -> None:
    if _is_ip(host):
        return
    try:
        usable = bool(re.fullmatch(rb"[A-Za-z0-9._-]+", host.encode("idna"))) and ".." not in host
    except UnicodeError:
        usable = False
    if not usable or host.startswith(".") or re.fullmatch(r"[0-9.]+", host):
        raise ValueError("must contain a valid host name or IP address, with an IPv6 address in brackets")


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
