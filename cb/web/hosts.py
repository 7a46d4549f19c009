"""The names that a service answers to.

A page of others whose name was made to lead to this host ("DNS rebinding") is, for the browser that shows it, part of
this service: it may read all and send all. But its requests carry its name.
"""

import ipaddress
import re

from flask import Flask, request

from .problems import Problem
from .settings import Settings

_LOCALHOST = frozenset({"localhost", "localhost."})
#: headers of proxies that tell of their clients
_FORWARDED = (
    *("Forwarded", "Via", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-IP"),
    *("CF-Connecting-IP", "True-Client-IP", "X-Client-IP", "X-Cluster-Client-IP"),
)
# Some proxies tell the port too: another one for each connection.
_WITH_PORT = re.compile(r"(?:\[(?P<six>[^]]*)\]|(?P<four>[^:]*))(?::[0-9]+)?")
_HOST = re.compile(r"(?:\[([0-9a-f:.]{2,45})\]|([a-z0-9_.-]{1,253}))(?::[0-9]{1,5})?", re.ASCII | re.IGNORECASE)


def init_app(app: Flask) -> None:
    """Refuse requests under any other name."""
    settings: Settings = app.extensions["settings"]
    names = _LOCALHOST.union(name.lower() for name in (settings.host, *settings.hosts))

    def check() -> None:
        if not _is_named(names):
            raise Problem(
                400, "unknown-host", "this service does not answer to that name: server.hosts has those it does"
            )

    app.before_request(check)


def address_of(text: str | None) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the address of a client as a server or a proxy tells it, with or without a port; None if it is none.

    An IPv4 client of a socket for both (`[::]`) is one of IPv4: `::ffff:127.0.0.1` is `127.0.0.1`.
    """
    text = text or ""
    if told := _WITH_PORT.fullmatch(text):
        text = told["six"] or told["four"] or ""
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


def is_from_here() -> bool:
    """Return whether the running request comes from this host, under a name of it and past no proxy that tells.

    A client of a Unix socket has no address: it is a proxy, as a rule, and counts as another host.
    """
    client = address_of(request.remote_addr)
    near = client is not None and client.is_loopback
    return near and _is_named(_LOCALHOST) and not any(name in request.headers for name in _FORWARDED)


def _is_named(names: frozenset[str]) -> bool:
    """Return whether the running request names one of these, or an address of this host, which no name leads to."""
    told = request.environ.get("HTTP_HOST")
    if told is None and request.environ.get("SERVER_PROTOCOL") == "HTTP/1.0":
        return True  # no browser, for which this is
    match = _HOST.fullmatch(told or "")
    if match is None:
        return False
    name = (match[1] or match[2]).lower()
    address = address_of(name)
    return name in names or (address is not None and address.is_loopback)
