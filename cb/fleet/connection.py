"""From a URL to a client of the server: one of Redis or Valkey, or one with sentinels, or a cluster."""

from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.cluster import RedisCluster
from redis.exceptions import RedisClusterException, RedisError
from redis.retry import Retry

from cb.errors import CircuitError, ConfigError
from cb.ledger.paths import SHARED

#: seconds that the agent waits for an answer: nobody else waits for it
PATIENCE = 0.25
_PORTS = 65_535


class FleetError(CircuitError):
    """The server cannot be used now."""


def check(url: str) -> None:
    """Raise ConfigError for a URL that `connect` cannot take. Asks no server."""
    scheme = urlsplit(url).scheme
    if scheme not in SHARED:
        rule = f"begin with one of {', '.join(f'{known}://' for known in SHARED)}"
        raise ConfigError("url", rule, redacted(url))
    if scheme.endswith("+cluster"):  # a client of a cluster connects when it is made
        url = url.replace("+cluster", "", 1)
    client = connect(url)
    try:
        pool = client.connection_pool
        pool.connection_class(**pool.connection_kwargs)  # made, not connected: it knows its options
    except (TypeError, ValueError) as error:
        raise ConfigError("url", "have only options that redis-py knows", redacted(url)) from error
    finally:
        client.close()


def connect(url: str) -> Any:
    """Return a client that tries once and soon gives up. Raises ConfigError, and FleetError.

    `redis://`, `rediss://` and `unix://` are what redis-py takes; `redis+cluster://` (or `rediss+cluster://`) names any
    node of a cluster, `redis+sentinel://host:port,host:port/NAME` the sentinels of the master of that name.
    """
    scheme = urlsplit(url).scheme
    try:
        if scheme == "redis+sentinel":
            return _through_sentinels(url)
        if not 0 < (urlsplit(url).port or 1) <= _PORTS:
            raise ValueError
        if scheme.endswith("+cluster"):
            return RedisCluster.from_url(url.replace("+cluster", "", 1), **_once())
        return redis.Redis.from_url(url, **_once())
    except (ValueError, TypeError):
        # Not its text, and not as its cause: it may quote a password.
        sentinels = "redis+sentinel://HOST:PORT,HOST:PORT/NAME"
        rule = f"be {sentinels}" if scheme == "redis+sentinel" else "be one that redis-py takes"
        raise ConfigError("url", rule, redacted(url)) from None
    except (RedisError, RedisClusterException) as error:
        raise FleetError(str(error)) from error


def _once() -> dict[str, Any]:
    """Return the options of a client that tries once."""
    return {"socket_timeout": PATIENCE, "socket_connect_timeout": PATIENCE, "retry": Retry(NoBackoff(), 0)}


def _through_sentinels(url: str) -> Any:
    parts = urlsplit(url)
    credentials, _, addresses = parts.netloc.rpartition("@")
    user, _, password = map(unquote, credentials.partition(":"))
    name = parts.path.strip("/")
    watched = [_address(address) for address in addresses.split(",")]
    if not name:
        raise ValueError(name)
    options = {"username": user or None, "password": password or None, **dict(parse_qsl(parts.query)), **_once()}
    sentinels: Any = redis.Sentinel(watched, sentinel_kwargs=_once(), **_once())  # type: ignore[no-untyped-call]  # it has no types
    return sentinels.master_for(name, **options)


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not 0 < int(port) <= _PORTS:
        raise ValueError(text)
    return host, int(port)


def redacted(url: str) -> str:
    """Return a URL without what may be a password: its user, and its options."""
    scheme, _, rest = url.partition("://")
    place = rest.rpartition("@")[2].partition("?")[0]
    return f"{scheme}://{'***@' if '@' in rest else ''}{place}{'?***' if '?' in rest else ''}"
