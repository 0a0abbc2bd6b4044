"""Which addresses of the network anybody could be behind."""

from __future__ import annotations

from ipaddress import ip_address


def public(address: str) -> bool:
    """True for an address of the public internet; not for private, link-local, loopback and other special ones.

    Raises:
        ValueError: The text is no address.
    """
    known = ip_address(address)
    inner = getattr(known, "ipv4_mapped", None) or getattr(known, "sixtofour", None)
    return known.is_global and not known.is_multicast and (inner is None or inner.is_global)


def plainly_private(host: str) -> bool:
    """True when a host's name alone tells that it is not public; most names have to be looked up."""
    folded = host.lower().rstrip(".")
    if folded == "localhost" or folded.endswith(".localhost"):
        return True
    try:
        return not public(folded)
    except ValueError:
        return False
