"""A store of the last good values in a Redis or Valkey server, for all hosts."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from cb import ConfigError
from cb.handles import ProcessBound

from .errors import StoreError
from .stores import Store

#: seconds to wait for the server. The lookup of its host name may take longer.
TIMEOUT_SECONDS = 0.05
#: seconds after its last value when a cache expires
_EXPIRES_SECONDS = 86_400
_HERE = Path(__file__).parent


class RedisStore(ProcessBound, Store):
    """Values that all hosts share. Ages are measured by the clock of the server.

    Args:
        url: URL of the server, as redis-py takes it.
        name: Name that hosts share to use the same entries.
        max_entries: Number of entries beyond which the oldest are removed.

    Raises:
        ConfigError: The URL is invalid.
    """

    def __init__(self, url: str, name: str, max_entries: int = 1000) -> None:
        # Shown without the query and without everything up to the password.
        scheme, _, rest = url.partition("://")
        self._location = f"{scheme}://{rest.partition('?')[0].rpartition('@')[2]}"
        try:
            client = redis.Redis.from_url(
                url,
                socket_timeout=TIMEOUT_SECONDS,
                socket_connect_timeout=TIMEOUT_SECONDS,
                retry=Retry(NoBackoff(), 0),
            )
            pool = client.connection_pool
            pool.connection_kwargs["decode_responses"] = False  # a value is bytes, even if the URL says otherwise
            pool.connection_class(**pool.connection_kwargs)  # not connected: finds an invalid option now, not at a call
        except (ValueError, TypeError):
            raise ConfigError("url", "be one that redis-py takes", self._location) from None  # it may quote a password
        self._client = client
        self._keys = [f"cb:stale:{{{name}}}:{part}" for part in ("values", "times")]
        self._max_entries = max_entries
        self._find: Any = client.register_script((_HERE / "find.lua").read_text())
        self._keep: Any = client.register_script((_HERE / "keep.lua").read_text())

    def __repr__(self) -> str:
        return f"<RedisStore {self._location!r}>"

    def get(self, key: str) -> tuple[bytes, int] | None:
        with self._errors():
            found = self._find(self._keys, [key])
            return found and (found[0], int(found[1]) * 1000)

    def put(self, key: str, value: bytes, age: int) -> None:
        with self._errors():
            self._keep(self._keys, [key, value, age // 1000, self._max_entries, _EXPIRES_SECONDS])

    def close(self) -> None:
        """Close the connections. A later call opens them again."""
        self._client.close()
        self._client.connection_pool.disconnect()  # redis 5.0.0 leaves that to its owner

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # a server that is not Redis may make the client fail in any way
            raise StoreError(self._location, str(error) or repr(error)) from error
