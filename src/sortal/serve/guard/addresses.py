"""Which addresses are the public network, and which lead into somebody's own."""

from __future__ import annotations

import ipaddress

_TRANSLATED = tuple(
    ipaddress.ip_network(text)
    for text in (
        "::/96",  # IPv4-compatible
        "64:ff9b::/96",  # NAT64
        "64:ff9b:1::/48",  # NAT64 of one's own
        "2001::/32",  # Teredo
        "2002::/16",  # 6to4
        "fec0::/10",  # site-local
    )
)
"""IPv6 addresses that carry an IPv4 address, or belong to a site: a router may lead them anywhere."""


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public network: not private, loopback, link-local, multicast, reserved,
    shared by a provider, or an IPv6 address that stands for an IPv4 one."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if not found.is_global or found.is_multicast or found.is_reserved or found.is_unspecified:
        return False
    if found.version == 4:
        return True
    return found.ipv4_mapped is None and not any(found in network for network in _TRANSLATED)
