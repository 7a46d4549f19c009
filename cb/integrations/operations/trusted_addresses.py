"""Recognition of requests that come from this host."""

import ipaddress
import re

from .request import Request

#: names of the loopback interface
LOCALHOST = frozenset({"localhost", "localhost."})
#: headers by which proxies describe their clients
_FORWARDED = re.compile(
    r"(x-(original-)?)?forwarded(-.+)?|via|x-real-ip|x-envoy-.+|(cf-connecting|(true|x|x-cluster|fastly|fly)-client)-ip",
    re.IGNORECASE,
)
# Some proxies send the port too, a different one for each connection.
_WITH_PORT = re.compile(r"(?:\[(?P<six>[^]]*)\]|(?P<four>[^:]*))(?::[0-9]+)?")
_HOST = re.compile(r"(?:\[([0-9a-f:.]{2,45})\]|([a-z0-9_.-]{1,253}))(?::[0-9]{1,5})?", re.ASCII | re.IGNORECASE)


def parse_address(text: str | None) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Parse a client address as servers and proxies write it, with or without a port; None if it is no address.

    An IPv4 client of a dual-stack socket (`[::]`) is returned as IPv4: `::ffff:127.0.0.1` is `127.0.0.1`.
    """
    text = text or ""
    if match := _WITH_PORT.fullmatch(text):
        text = match["six"] or match["four"] or ""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def is_from_this_host(request: Request) -> bool:
    """Return True if a request comes from this host, by one of its names and through no visible proxy.

    A client of a Unix socket has no address: it is usually a proxy, and counts as another host. So does HTTP/1.0: nginx
    speaks it to an app unless configured otherwise, and adds no header. A browser on this host that shows a page of
    another site sends that site's `Origin`.
    """
    client = parse_address(request.client)
    page = request.headers.get("Origin")
    return (
        client is not None
        and client.is_loopback
        and (page is None or _is_one_of(page.partition("://")[2], LOCALHOST))
        and request.http_version != "1.0"
        and is_addressed_to(request, LOCALHOST)
        and not any(map(_FORWARDED.fullmatch, request.headers.keys()))
    )


def is_addressed_to(request: Request, names: frozenset[str]) -> bool:
    """Return True if the `Host` of a request is one of these names, or an address of this host."""
    host = request.headers.get("Host")
    if host is None and request.http_version == "1.0":
        return True  # not a browser: DNS rebinding needs one
    return _is_one_of(host or "", names)


def _is_one_of(host: str, names: frozenset[str]) -> bool:
    match = _HOST.fullmatch(host)
    if match is None:
        return False
    name = (match[1] or match[2]).lower()
    address = parse_address(name)
    return name in names or (address is not None and address.is_loopback)
