"""URLs that may be asked for, and the addresses that may be connected to.

A table comes from a stranger; it must not make this machine talk to its own network. Names are checked by what they
resolve to, and the address that was checked is the one that is connected to, so a name cannot change in between.
"""

from __future__ import annotations

import ipaddress
from urllib.parse import urljoin, urlsplit, urlunsplit

LONGEST_URL = 8192

_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class PrivateAddress(OSError):
    """An address that is not on the public internet. An OSError, since it is raised where sockets are made."""


def is_public(address: str) -> bool:
    """Whether an IPv4 or IPv6 address is on the public internet, whatever form it is wrapped in."""
    try:
        ip = ipaddress.ip_address(address.split("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        inner = [ip.ipv4_mapped, ip.sixtofour, *(ip.teredo or ())]
        if ip in _NAT64 or int(ip) >> 32 == 0:  # the last: the old "::1.2.3.4"
            inner.append(ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF))
        if any(one is not None and not is_public(str(one)) for one in inner):
            return False
        if ip.ipv4_mapped is not None or ip in _NAT64:
            return True
        if ip.is_site_local:
            return False
    return ip.is_global and not (ip.is_multicast or ip.is_reserved or ip.is_unspecified)


def clean_url(url: str, base: str | None = None) -> str:
    """`url` without its fragment and, where `base` is given, made absolute. Raises `ValueError`: no http(s) URL."""
    url = url.strip()
    if base is not None:
        url = urljoin(base, url)
    if len(url) > LONGEST_URL:
        raise ValueError(f"longer than {LONGEST_URL} characters")
    if any(ord(c) < 32 or c == "\x7f" or 0xD800 <= ord(c) <= 0xDFFF for c in url):
        raise ValueError("control characters")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https"):
        raise ValueError(f"expected http or https, got '{parts.scheme[:20]}'")
    if not parts.hostname:
        raise ValueError("no host")
    if parts.username is not None or parts.password is not None:
        raise ValueError("a user name in it")
    _ = parts.port  # raises ValueError itself
    return urlunsplit((parts.scheme, parts.netloc, parts.path or "/", parts.query, ""))


def origin_of(url: str) -> str:
    """Scheme, host and port: what robots.txt and the bounds per host belong to."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.lower()}"


def host_of(url: str) -> str:
    """The host's name, for reports."""
    return urlsplit(url).netloc.lower()
