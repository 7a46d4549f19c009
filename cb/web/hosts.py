"""The names that a service answers to.

A page of others whose name was made to lead to this host ("DNS rebinding") is, for the browser that shows it, part of
this service: it may read all and send all. But its requests carry its name.
"""

import ipaddress
import re

from flask import Flask, request

from .problems import Problem
from .settings import Settings

_HERE = ("127.0.0.1", "localhost", "::1")
_FORWARDED = ("Forwarded", "Via", "X-Forwarded-For", "X-Real-IP")
_HOST = re.compile(r"(?:\[([0-9a-f:.]{2,45})\]|([a-z0-9_.-]{1,253}))(?::[0-9]{1,5})?", re.ASCII | re.IGNORECASE)


def init_app(app: Flask) -> None:
    """Refuse requests under any other name."""
    settings: Settings = app.extensions["settings"]
    names = frozenset(name.lower() for name in (*_HERE, settings.host, *settings.hosts))

    def check() -> None:
        if not _is_named(names):
            raise Problem(
                400, "unknown-host", "this service does not answer to that name: server.hosts has those it does"
            )

    app.before_request(check)


def is_from_here() -> bool:
    """Return whether the running request comes from this host, under a name of it and past no proxy that tells."""
    try:
        near = ipaddress.ip_address(request.remote_addr or "").is_loopback
    except ValueError:
        return False
    return near and _is_named(frozenset(_HERE)) and not any(name in request.headers for name in _FORWARDED)


def _is_named(names: frozenset[str]) -> bool:
    told = request.environ.get("HTTP_HOST")
    if told is None and request.environ.get("SERVER_PROTOCOL") == "HTTP/1.0":
        return True  # no browser, for which this is
    match = _HOST.fullmatch(told or "")
    return match is not None and (match[1] or match[2]).lower() in names
