"""Which proxy of the environment a request goes through: HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY. Pure.

As Go's clients and curl read them, so that what works for kubectl works here: Python's own reader knows no networks in
NO_PROXY, which clusters with a proxy have there (OpenShift: "Configuring the cluster-wide proxy").

The same file is in the agent service and in the operator, whose images do not hold each other's code.
"""

import os
import re
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import urlsplit, urlunsplit

_PORTS = {"http": 80, "https": 443}
_SCHEMES = frozenset({"http", "https"})


class ProxyError(ValueError):
    """The environment names a proxy that cannot be used. The message holds no password."""


def proxy_for(url: str, environ: Mapping[str, str] = os.environ, *, any_scheme: bool = False) -> str | None:
    """Return the address of the proxy for a request; None where it goes directly.

    Args:
        url: whom the request is for.
        environ: the variables, in lower or upper case; lower case wins.
        any_scheme: whether ALL_PROXY counts as well, which kubectl does not read.

    Raises:
        ProxyError: when the proxy is not one that is spoken to in HTTP.
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
        written: the address, perhaps without a scheme.
        where: what it stands in, for the words of the error.

    Raises:
        ProxyError: when the proxy is not one that is spoken to in HTTP.
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
        url: whom the request is for.
        no_proxy: names (of a host, and of all below it), IP addresses, networks such as 10.0.0.0/8, each with a port or
            without; or `*` for everything. Commas or white space between them.
    """
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".")
    address = _address(host.partition("%")[0])
    port = parts.port or _PORTS.get(parts.scheme)
    return any(_matches(entry, host, address, port) for entry in re.split(r"[\s,]+", no_proxy.lower()) if entry)


def without_password(proxy: str) -> str:
    """Return the address of a proxy as it may be shown."""
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
