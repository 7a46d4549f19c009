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
#: headers by which proxies tell of their clients
_FORWARDED = re.compile(
    r"(x-(original-)?)?forwarded(-.+)?|via|x-real-ip|x-envoy-.+|(cf-connecting|(true|x|x-cluster|fastly|fly)-client)-ip",
    re.IGNORECASE,
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


def is_from_this_host() -> bool:
    """Return whether the running request comes from this host, under a name of it and past no proxy that tells.

    A client of a Unix socket has no address: it is a proxy, as a rule, and counts as another host. A browser on this
    host that shows a page of another one says so, where the app lets such pages send JSON (CORS).
    """
    client = address_of(request.remote_addr)
    near = client is not None and client.is_loopback
    page = request.headers.get("Origin", "http://localhost").partition("://")[2]
    return (
        near
        and _is_one(page, _LOCALHOST)
        and _is_named(_LOCALHOST)
        and not any(map(_FORWARDED.fullmatch, request.headers.keys()))
    )


def _is_named(names: frozenset[str]) -> bool:
    """Return whether the running request names one of these, or an address of this host, which no name leads to."""
    told = request.environ.get("HTTP_HOST")
    if told is None and request.environ.get("SERVER_PROTOCOL") == "HTTP/1.0":
        return True  # no browser, for which this is
    return _is_one(told or "", names)


def _is_one(told: str, names: frozenset[str]) -> bool:
    match = _HOST.fullmatch(told)
    if match is None:
        return False
    name = (match[1] or match[2]).lower()
    address = address_of(name)
    return name in names or (address is not None and address.is_loopback)
