"""From a URL to a client of the server: one of Redis or Valkey, or one with sentinels, or a cluster."""

from typing import Any
from urllib.parse import parse_qsl, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.cluster import RedisCluster
from redis.exceptions import RedisError
from redis.retry import Retry

from cb.errors import CircuitError, ConfigError

#: seconds that the agent waits for an answer: nobody else waits for it
PATIENCE = 0.25
SCHEMES = ("redis", "rediss", "unix", "redis+sentinel", "redis+cluster", "rediss+cluster")


class FleetError(CircuitError):
    """The server cannot be used now."""


def check(url: str) -> None:
    """Raise ConfigError for a URL that `connect` cannot take. Asks no server."""
    scheme = urlsplit(url).scheme
    if scheme not in SCHEMES:
        rule = f"begin with one of {', '.join(f'{known}://' for known in SCHEMES)}"
        raise ConfigError("url", rule, redacted(url))
    if not scheme.endswith("+cluster"):  # a client of a cluster connects when it is made
        connect(url).close()


def connect(url: str) -> Any:
    """Return a client that tries once and soon gives up. Raises ConfigError, and FleetError.

    `redis://`, `rediss://` and `unix://` are what redis-py takes; `redis+cluster://` (or `rediss+cluster://`) names any
    node of a cluster, `redis+sentinel://host:port,host:port/NAME` the sentinels of the master of that name.
    """
    scheme = urlsplit(url).scheme
    once: dict[str, Any] = {
        "socket_timeout": PATIENCE,
        "socket_connect_timeout": PATIENCE,
        "retry": Retry(NoBackoff(), 0),
    }
    try:
        if scheme == "redis+sentinel":
            return _through_sentinels(url, once)
        if scheme.endswith("+cluster"):
            return RedisCluster.from_url(url.replace("+cluster", "", 1), **once)
        return redis.Redis.from_url(url, **once)
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError("url", f"be one that redis-py takes ({error})", redacted(url)) from error
    except RedisError as error:
        raise FleetError(str(error)) from error


def _through_sentinels(url: str, once: dict[str, Any]) -> Any:
    parts = urlsplit(url)
    credentials, _, addresses = parts.netloc.rpartition("@")
    hosts = [address.rpartition(":") for address in addresses.split(",")]
    user, _, password = credentials.partition(":")
    named = {"username": user or None, "password": password or None, **dict(parse_qsl(parts.query))}
    name = parts.path.strip("/")
    if not name or not all(host for host, _, _ in hosts):
        raise ConfigError("url", "be redis+sentinel://HOST:PORT,HOST:PORT/NAME", redacted(url))
    watched = [(host, int(port)) for host, _, port in hosts]
    sentinels: Any = redis.Sentinel(watched, **once)  # type: ignore[no-untyped-call]  # it has no types
    return sentinels.master_for(name, **named, **once)


def redacted(url: str) -> str:
    """Return a URL without its password."""
    before, at, after = url.rpartition("@")
    user = before.rpartition(":")[0] if before.count(":") > 1 else before
    return f"{user}:***@{after}" if at else url
