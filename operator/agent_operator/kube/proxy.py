"""The proxy for a request, from HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY in the environment. Pure.

The variables are read as Go's clients and curl read them, so that what works for kubectl works here. Python's own
reader does not support networks in NO_PROXY, which clusters with a proxy use (OpenShift: "Configuring the cluster-wide
proxy").

The agent service and the operator each have a copy of this file, because their images do not contain each other's
code.
"""

import os
import re
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import urlsplit, urlunsplit

_PORTS = {"http": 80, "https": 443}
_SCHEMES = frozenset({"http", "https"})


class ProxyError(ValueError):
    """The environment names a proxy that cannot be used. The message does not contain its password."""


def proxy_for(url: str, environ: Mapping[str, str] = os.environ, *, any_scheme: bool = False) -> str | None:
    """Return the address of the proxy for a request; None if the request is sent directly.

    Args:
        url: the URL of the request.
        environ: the variables, in lower or upper case; lower case takes precedence.
        any_scheme: whether to read ALL_PROXY too, which kubectl does not.

    Raises:
        ProxyError: if the proxy is not an HTTP proxy.
    """
    parts = urlsplit(url)
    names = [f"{parts.scheme}_proxy", *(["all_proxy"] if any_scheme else [])]
    name, value = next(((name, value) for name in names if (value := _variable(environ, name))), ("", ""))
    if not value or is_exempt(url, _variable(environ, "no_proxy")):
        return None
    return usable_proxy(value, name.upper())


def usable_proxy(written: str, where: str) -> str:
    """Return the address of a proxy with its scheme.

    Args:
        written: the address, with or without a scheme.
        where: the name of the setting that holds the address, for the error message.

    Raises:
        ProxyError: if the proxy is not an HTTP proxy.
    """
    proxy = written if "://" in written else f"http://{written}"
    try:
        parts = urlsplit(proxy)
        usable = parts.scheme.lower() in _SCHEMES and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or re.search(r"\s", proxy):
        raise ProxyError(f"{where} is not the address of an HTTP proxy: write it as http://host:port")
    return proxy


def is_exempt(url: str, no_proxy: str) -> bool:
    """Return whether NO_PROXY exempts an address.

    Args:
        url: the URL of the request.
        no_proxy: a list, separated by commas or white space, of host names (each includes all names below it), IP
            addresses, and networks such as 10.0.0.0/8, each with or without a port; or `*` for every address.
    """
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".")
    address = _address(host.partition("%")[0])
    port = parts.port or _PORTS.get(parts.scheme)
    return any(_matches(entry, host, address, port) for entry in re.split(r"[\s,]+", no_proxy.lower()) if entry)


def without_password(proxy: str) -> str:
    """Return the address of a proxy without its credentials and path, for logs and messages."""
    parts = urlsplit(proxy)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], "", "", ""))


def _matches(entry: str, host: str, address: IPv4Address | IPv6Address | None, port: int | None) -> bool:
    if entry == "*":
        return True
    if "/" in entry:
        try:
            return address is not None and address in ip_network(entry.replace("[", "").replace("]", ""), strict=False)
        except ValueError:
            return False
    name, wanted = _split_port(entry)
    if wanted is not None and wanted != port:
        return False
    exempt = _address(name)
    if exempt is not None:
        return exempt == address
    domain = name.removeprefix("*").strip(".")
    return bool(domain) and address is None and (host == domain or host.endswith(f".{domain}"))


def _split_port(entry: str) -> tuple[str, int | None]:
    """Return the host of `host:port`, without brackets, and the port."""
    found = re.fullmatch(r"(\[[^\]]*\]|[^:]*):([0-9]+)", entry)
    name, port = (found[1], int(found[2])) if found else (entry, None)
    return name.removeprefix("[").removesuffix("]"), port


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None


def _variable(environ: Mapping[str, str], name: str) -> str:
    return (environ.get(name) or environ.get(name.upper()) or "").strip()
