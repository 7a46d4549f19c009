"""A cache of the last good values, for the time when a dependency fails: stale-if-error (RFC 5861)."""

import json
import zlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, ParamSpec, Self, TypeVar
from urllib.parse import quote

from cb import CircuitError, ConfigError, Duration, ErrorFilter
from cb.asynchronous import completed
from cb.background.event_loop import in_thread
from cb.clocks import monotonic_ns
from cb.config import nanoseconds, to_seconds
from cb.handles import ProcessBound
from cb.log import Log
from cb.state.deferred import UnseenOutcomeError, require_done
from cb.state.outcome import leaves, predicate

from .store_breaker import StoreBreaker
from .stores import MemoryStore, Store, open_store

log = Log(__name__)

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
_DAY = 86_400.0
_MAGIC = b"cb1"


@dataclass(frozen=True, slots=True)
class CachedValue(Generic[T]):
    """A value, and whether it is an earlier one that replaces a failure."""

    #: the value
    value: T
    #: seconds since the value was requested; None if it was fetched by this call
    age: float | None = None
    #: True if the value replaces a failure
    stale: bool = False


def _dump(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _sealed(store_key: str, data: bytes) -> bytes:
    """Return data with a checksum over key and data, so that damaged or foreign bytes are recognized."""
    return _MAGIC + zlib.crc32(store_key.encode() + b"\0" + data).to_bytes(4) + data


def _unsealed(store_key: str, sealed: object) -> bytes:
    """Return the data that was sealed. Raises ValueError if the checksum does not match."""
    if isinstance(sealed, bytes) and _sealed(store_key, data := sealed[len(_MAGIC) + 4 :]) == sealed:
        return data
    raise ValueError("the checksum does not match")


class StaleCache(ProcessBound, Generic[T]):
    """A cache that returns the last good value when a call fails.

    A value younger than `max_age` is returned without a call. Otherwise the function is called; if it raises one of
    `errors`, a value of at most `max_stale_age` is returned, marked `stale`. Any other error reaches the caller: a 404,
    for example, is a valid response. Coroutines use `acall`, which asks a store that other processes share in a
    thread. A store that is unavailable disables the cache, and never fails a call.

    Args:
        name: Name of the cache. Caches with different names share a store without sharing values.
        store: URL of a store as `open_store` takes it, closed with the cache; or a store, which stays open.
        max_stale_age: Age up to which a value may replace a failure, in seconds or as a timedelta, at most a day.
        max_age: Age below which a value is returned without a call; 0 to call each time.
        errors: Exception types that a value may replace, or a predicate. By default every CircuitError,
            ConnectionError and TimeoutError.
        dump: Function that serializes a value; JSON by default.
        load: Function that restores a value from the result of `dump`.
        max_bytes: Largest key and largest serialized value to store.
        clock: Monotonic clock, in nanoseconds.

    Raises:
        ConfigError: A parameter is out of range.
    """

    def __init__(
        self,
        name: str,
        store: Store | str,
        *,
        max_stale_age: Duration,
        max_age: Duration = 0.0,
        errors: ErrorFilter = (CircuitError, ConnectionError, TimeoutError),
        dump: Callable[[T], bytes] = _dump,
        load: Callable[[bytes], T] = json.loads,
        max_bytes: int = 65_536,
        clock: Callable[[], int] = monotonic_ns,
    ) -> None:
        stale_seconds, fresh_seconds = to_seconds(max_stale_age, "max_stale_age"), to_seconds(max_age, "max_age")
        if not 0 < stale_seconds <= _DAY:
            raise ConfigError("max_stale_age", "be above 0 and at most 24h, in seconds", max_stale_age)
        if not 0 <= fresh_seconds <= stale_seconds:
            raise ConfigError("max_age", f"be from 0 to max_stale_age ({stale_seconds:g} s)", max_age)
        #: name of the cache within its store
        self.name = name
        self._owns_store = isinstance(store, str)
        self._store = open_store(store) if isinstance(store, str) else store
        self._max_stale_age, self._max_age = nanoseconds(stale_seconds), nanoseconds(fresh_seconds)
        self._is_replaceable = predicate("errors", errors)
        self._dump, self._load = dump, load
        self._max_bytes = max_bytes
        self._clock = clock
        self._breaker: StoreBreaker[None] = StoreBreaker(f"stale cache {name!r}", clock)
        self._unreadable_logged = False

    def __repr__(self) -> str:
        return f"<StaleCache {self.name!r}, max_stale_age {self._max_stale_age / 1e9:g} s, in {self._store!r}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the store, if the cache has opened it."""
        if self._owns_store:
            self._store.close()

    def call(self, key: str, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> CachedValue[T]:
        """Return fn(*args, **kwargs), or the value that is stored for the key. Errors of fn are raised."""
        if self._max_age and (cached := self._find(key, self._max_age, stale=False)):
            return cached
        started = self._clock()
        try:
            value = fn(*args, **kwargs)
        except Exception as error:
            if self._covers(error) and (cached := self._find(key, self._max_stale_age, stale=True)):
                return cached
            raise
        require_done(value)
        self._keep(key, value, started)
        return CachedValue(value)

    async def acall(
        self, key: str, fn: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> CachedValue[T]:
        """Return await fn(*args, **kwargs), or the value that is stored for the key, without holding the event loop."""
        if self._max_age and (cached := await self._aside(lambda: self._find(key, self._max_age, stale=False))):
            return cached
        started = self._clock()
        try:
            value: T = await completed(fn(*args, **kwargs))
        except Exception as error:
            if self._covers(error) and (
                cached := await self._aside(lambda: self._find(key, self._max_stale_age, stale=True))
            ):
                return cached
            raise
        require_done(value)
        await self._aside(lambda: self._keep(key, value, started))
        return CachedValue(value)

    async def _aside(self, work: Callable[[], R]) -> R:
        """Return work(), run in a thread if the store may wait for a file or a server."""
        return work() if isinstance(self._store, MemoryStore) else await in_thread(work)

    def _covers(self, error: Exception) -> bool:
        if isinstance(error, UnseenOutcomeError):
            return False
        if self._is_replaceable(error):
            return True
        return isinstance(error, ExceptionGroup) and any(map(self._is_replaceable, leaves(error)))

    def _find(self, key: str, max_age: int, *, stale: bool) -> CachedValue[T] | None:
        store_key = self._store_key(key)
        found = self._breaker.call(lambda: self._store.get(store_key), None)
        if found is None:
            return None
        try:
            data, age = found
            if type(age) is not int or age < 0:
                raise ValueError(f"its age is {age!r:.80}")
            if age > max_age:
                return None
            value = self._load(_unsealed(store_key, data))
        except Exception as error:  # noqa: BLE001 - another release, or another program, may have written it
            logged, self._unreadable_logged = self._unreadable_logged, True
            if not logged:
                log.warning("stale cache %r: the stored value of %r cannot be read: %r", self.name, key, error)
            return None
        self._unreadable_logged = False
        return CachedValue(value, age / 1e9, stale)

    def _keep(self, key: str, value: T, started: int) -> None:
        store_key, age = self._store_key(key), max(self._clock() - started, 0)
        try:
            data = self._dump(value)
            size, data = max(len(data), len(key)), _sealed(store_key, data)
        except Exception:  # the call has succeeded, and its caller gets the value
            log.exception("stale cache %r: the value of %r cannot be stored", self.name, key)
            return
        if size <= self._max_bytes:
            # Age counts from the request: a slow response may be older than one that has overtaken it.
            self._breaker.call(lambda: self._store.put(store_key, data, age), None)

    def _store_key(self, key: str) -> str:
        # Quoted: a key from a request may contain a lone surrogate, which no store accepts, or another cache's name.
        return f"{quote(self.name, safe='')}/{quote(key, errors='surrogatepass')}"
