"""The last good answers in a Redis or Valkey server, for all hosts that name it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from cb.errors import ConfigError
from cb.handles import ProcessBound

from .errors import StoreError

#: seconds that an answer waits for the server. It does not bound how long the name of a host may take to be looked up.
TIMEOUT_SECONDS = 0.05
#: seconds after its last value for which a cache lives
_LIVES = 86_400
_HERE = Path(__file__).parent


class RedisStore(ProcessBound):
    """Values of all that name the same server and the same cache. Its clock is the server's."""

    def __init__(self, url: str, name: str, max_entries: int = 1000) -> None:
        # Of the query nothing is told, and of the rest only what follows the password.
        scheme, _, rest = url.partition("://")
        self._place = f"{scheme}://{rest.partition('?')[0].rpartition('@')[2]}"
        try:
            client = redis.Redis.from_url(
                url, socket_timeout=TIMEOUT_SECONDS, socket_connect_timeout=TIMEOUT_SECONDS, retry=Retry(NoBackoff(), 0)
            )
            pool = client.connection_pool
            pool.connection_kwargs["decode_responses"] = False  # a value is bytes, whatever the URL says
            pool.connection_class(**pool.connection_kwargs)  # not connected: else the first answer finds what is wrong
        except (ValueError, TypeError):
            raise ConfigError("url", "be one that redis-py takes", self._place) from None  # it may quote a password
        self._keys = [f"cb:stale:{{{name}}}:{part}" for part in ("values", "times")]
        self._max_entries = max_entries
        self._find: Any = client.register_script((_HERE / "find.lua").read_text())
        self._keep: Any = client.register_script((_HERE / "keep.lua").read_text())

    def get(self, key: str) -> tuple[bytes, int] | None:
        with self._errors():
            found = self._find(self._keys, [key])
            return found and (found[0], int(found[1]) * 1000)

    def put(self, key: str, value: bytes, age: int) -> None:
        with self._errors():
            self._keep(self._keys, [key, value, age // 1000, self._max_entries, _LIVES])

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # what is no Redis may have the client fail in any way
            raise StoreError(self._place, str(error) or repr(error)) from error
