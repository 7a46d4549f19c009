"""Clients for the URL of a server: a single Redis or Valkey server, one behind sentinels, or a cluster."""

from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.cluster import RedisCluster
from redis.exceptions import RedisClusterException, RedisError
from redis.retry import Retry

from cb.errors import CircuitError, ConfigError
from cb.ledger.paths import SHARED

#: Seconds to wait for the server to connect or to reply. Only the agent waits.
SERVER_TIMEOUT_SECONDS = 0.25
_MAX_PORT = 65_535


class FleetError(CircuitError):
    """The server cannot be used at present, or its reply is invalid.

    Args:
        reason: The reason, in words.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        #: the reason, in words
        self.reason = reason


def check(url: str) -> None:
    """Raise ConfigError for a URL that `Fleet` does not accept. Does not connect to the server."""
    scheme = urlsplit(url).scheme
    if scheme not in SHARED:
        rule = f"begin with one of {', '.join(f'{known}://' for known in SHARED)}"
        raise ConfigError("url", rule, redacted(url))
    if scheme.endswith("+cluster"):  # the client of a cluster connects when it is created
        url = url.replace("+cluster", "", 1)
    client = connect(url)
    try:
        pool = client.connection_pool
        pool.connection_class(**pool.connection_kwargs)  # created, not connected: the constructor checks the options
    except (TypeError, ValueError) as error:
        raise ConfigError("url", "have only options that redis-py knows", redacted(url)) from error
    finally:
        client.close()


def connect(url: str) -> Any:
    """Return a client that does not retry and has a short timeout. Raises ConfigError and FleetError.

    `redis://`, `rediss://` and `unix://` are passed to redis-py; `redis+cluster://` and `rediss+cluster://` name any
    node of a cluster, and `redis+sentinel://host:port,host:port/NAME` the sentinels of the master with that name.
    """
    scheme = urlsplit(url).scheme
    try:
        if scheme == "redis+sentinel":
            return _through_sentinels(url)
        if not 0 < (urlsplit(url).port or 1) <= _MAX_PORT:
            raise ValueError
        if scheme.endswith("+cluster"):
            return RedisCluster.from_url(url.replace("+cluster", "", 1), **_options())
        return redis.Redis.from_url(url, **_options())
    except (ValueError, TypeError):
        # The original error is neither quoted nor chained: it may contain a password.
        sentinels = "redis+sentinel://HOST:PORT,HOST:PORT/NAME"
        rule = f"be {sentinels}" if scheme == "redis+sentinel" else "be a URL that redis-py accepts"
        raise ConfigError("url", rule, redacted(url)) from None
    except (RedisError, RedisClusterException) as error:
        raise FleetError(str(error)) from error


def _options() -> dict[str, Any]:
    """Return the options of a client that does not retry."""
    timeout = SERVER_TIMEOUT_SECONDS
    return {"socket_timeout": timeout, "socket_connect_timeout": timeout, "retry": Retry(NoBackoff(), 0)}


def _through_sentinels(url: str) -> Any:
    parts = urlsplit(url)
    credentials, _, addresses = parts.netloc.rpartition("@")
    user, _, password = map(unquote, credentials.partition(":"))
    name = parts.path.strip("/")
    watched = [_address(address) for address in addresses.split(",")]
    if not name:
        raise ValueError(name)
    options = {"username": user or None, "password": password or None, **dict(parse_qsl(parts.query)), **_options()}
    sentinels: Any = redis.Sentinel(watched, sentinel_kwargs=_options(), **_options())  # type: ignore[no-untyped-call]  # redis-py does not annotate it
    return sentinels.master_for(name, **options)


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not 0 < int(port) <= _MAX_PORT:
        raise ValueError(text)
    return host, int(port)


def redacted(url: str) -> str:
    """Return a URL without the parts that may hold a password: the user and the options."""
    scheme, _, rest = url.partition("://")
    address = rest.rpartition("@")[2].partition("?")[0]
    return f"{scheme}://{'***@' if '@' in rest else ''}{address}{'?***' if '?' in rest else ''}"
