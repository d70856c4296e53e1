"""Addresses that a configured server must not have: those through which clouds give credentials to a machine. Pure."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

# Link-local networks (RFC 3927, RFC 4291), and the metadata services of clouds outside of them: AWS (IPv6), Google
# (IPv6), Alibaba, Azure (WireServer) and Oracle.
_REFUSED_4 = tuple(map(IPv4Network, ("169.254.0.0/16", "100.100.100.200/32", "168.63.129.16/32", "192.0.0.192/32")))
_REFUSED_6 = tuple(map(IPv6Network, ("fe80::/10", "fd00:ec2::/32", "fd20:ce::254/128")))
# Translation prefixes that contain an IPv4 address: NAT64 (RFC 6052, RFC 8215).
_NAT64 = tuple(map(IPv6Network, ("64:ff9b::/96", "64:ff9b:1::/48")))


def is_refused(address: str) -> bool:
    """Return whether an IP address is link-local or of a metadata service, also inside an IPv6 address."""
    found = ip_address(address.partition("%")[0])
    if isinstance(found, IPv4Address):
        return any(found in network for network in _REFUSED_4)
    inner = _embedded(found)
    return any(found in network for network in _REFUSED_6) or (inner is not None and is_refused(str(inner)))


def is_refused_host(host: str) -> bool:
    """Return whether the host of a URL is such an address; False for a name, which may resolve to one."""
    try:
        return is_refused(host)
    except ValueError:
        return False


def _embedded(address: IPv6Address) -> IPv4Address | None:
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if any(address in network for network in _NAT64) or int(address) >> 32 == 0:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return None
