"""The section `server` of the settings: address, host names, workers, timeouts, and limits of clients."""

import ipaddress
import re
from typing import Any

from marshmallow import Schema, ValidationError, validate
from marshmallow.fields import List

from .fields import Duration, StrictField, Whole

_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?", re.ASCII)
_RATE = re.compile(r"[1-9][0-9]{0,8}/([1-9][0-9]{0,3} ?)?(second|minute|hour)", re.ASCII)
_some_time = validate.Range(0.1, 300, error="must be from 100ms to 5m")


class _Address(StrictField[str]):
    """An address to listen on."""

    def check(self, value: Any) -> str:
        if not isinstance(value, str) or not (value == "localhost" or _is_address(value)):
            raise ValidationError("must be an IP address or localhost")
        return value


class _HostName(StrictField[str]):
    """A host name or an address, as in URLs of the service."""

    def check(self, value: Any) -> str:
        if not isinstance(value, str) or not (_NAME.fullmatch(value) or _is_address(value)):
            raise ValidationError("must be a name or an address, without a port")
        return value


class _Rate(StrictField[str]):
    """A rate of requests."""

    def check(self, value: Any) -> str:
        if not isinstance(value, str) or not _RATE.fullmatch(value):
            raise ValidationError("must be like 200/second or 1000/10 minute")
        return value


class ServerSchema(Schema):
    host = _Address(load_default="127.0.0.1")
    hosts = List(_HostName(), load_default=())
    workers = Whole(1, 63, load_default=2)
    threads = Whole(1, 1000, load_default=16)
    read_timeout = Duration(load_default=5.0, validate=_some_time)
    write_timeout = Duration(load_default=10.0, validate=_some_time)
    proxies = Whole(0, 5, load_default=0)
    rate_limit = _Rate(load_default="200/second", allow_none=True)


def is_loopback(host: str) -> bool:
    """Return True if only this machine can reach an address."""
    return host == "localhost" or ipaddress.ip_address(host).is_loopback


def url_host(host: str) -> str:
    """Return the host for URLs by which this machine reaches a service that listens on an address."""
    here = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  # it binds nothing
    return f"[{here}]" if ":" in here else here


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
