"""Which IP addresses are the public internet.

``ipaddress.is_global`` alone is not the answer: it follows the Python version's copy of IANA's registries,
and says yes to multicast, and to addresses that carry another address inside, which a gateway may unpack.
So only what is listed as unicast for everybody passes: IPv4 without the ranges below, and of IPv6 2000::/3
without its own special blocks (RFC 6890, RFC 9637; the IANA special-purpose registries of 2025).
"""

from __future__ import annotations

import ipaddress

__all__ = ["Address", "is_never_allowed", "is_public"]

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_V4_SPECIAL = [
    ipaddress.IPv4Network(text)
    for text in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT; a cloud's metadata service lives there too
        "127.0.0.0/8",
        "169.254.0.0/16",  # link-local: metadata services
        "172.16.0.0/12",
        "192.0.0.0/24",  # protocol assignments; 192.0.0.192 is a cloud's metadata service
        "192.0.2.0/24",
        "192.31.196.0/24",  # AS112
        "192.52.193.0/24",  # AMT
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",
        "192.175.48.0/24",  # AS112
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
        "168.63.129.16/32",  # looks public, is a cloud's host agent
    )
]
_V6_UNICAST = ipaddress.IPv6Network("2000::/3")
_V6_SPECIAL = [
    ipaddress.IPv6Network(text)
    for text in (
        "2001::/23",  # protocol assignments: Teredo, ORCHID, benchmarks
        "2001:db8::/32",
        "2002::/16",  # 6to4: an IPv4 address inside
        "2620:4f:8000::/48",  # AS112
        "3fff::/20",
    )
]
# Not even to a host that the operator has named: whoever controls its name could point it there.
_NEVER = [
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8",
        "169.254.0.0/16",
        "100.100.100.200/32",
        "168.63.129.16/32",
        "192.0.0.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
        "::/128",
        "fe80::/10",
        "fec0::/10",
        "fd00:ec2::254/128",
        "fd20:ce::254/128",
        "ff00::/8",
        "::ffff:0:0/96",
        "64:ff9b::/96",
        "64:ff9b:1::/48",
        "2001::/32",
        "2002::/16",
    )
]


def is_public(address: Address) -> bool:
    """Whether this is an address that anybody on the internet can reach."""
    if isinstance(address, ipaddress.IPv4Address):
        return address.is_global and not any(address in network for network in _V4_SPECIAL)
    if address.scope_id is not None or not address.is_global:
        return False
    return address in _V6_UNICAST and not any(address in network for network in _V6_SPECIAL)


def is_never_allowed(address: Address) -> bool:
    """Whether even a host named by the operator may not have this address: metadata services, multicast,
    link-local, and IPv6 addresses with an IPv4 address inside."""
    return any(address.version == network.version and address in network for network in _NEVER)
