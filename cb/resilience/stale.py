"""The last good answer, while a dependency is away: what HTTP calls stale-if-error (RFC 5861)."""

import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, ParamSpec, TypeVar
from urllib.parse import quote

from cb.clocks import monotonic_ns
from cb.config import nanoseconds
from cb.errors import CircuitError, ConfigError
from cb.handles import ProcessBound
from cb.log import Log
from cb.state.deferred import UnseenOutcomeError, require_done
from cb.state.outcome import Kinds, leaves, predicate

from .store_breaker import StoreBreaker
from .stores import Store

log = Log(__name__)

P = ParamSpec("P")
T = TypeVar("T")
_DAY = 86_400.0
_SEAL = b"cb1"


@dataclass(frozen=True, slots=True)
class CachedValue(Generic[T]):
    """An answer, and whether it is one of earlier that stands in for a failure."""

    #: the answer
    value: T
    #: seconds since it was asked for; None if that was just now
    age: float | None = None
    #: whether it stands in for a failure
    stale: bool = False


def _dump(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _sealed(place: str, data: bytes) -> bytes:
    """Return data with a checksum, by which it is known again, whole and for this key, whatever else a store has."""
    return _SEAL + zlib.crc32(place.encode() + b"\0" + data).to_bytes(4) + data


def _unsealed(place: str, sealed: object) -> bytes:
    """Return what was sealed. Raises ValueError if it was not, or is not whole."""
    if isinstance(sealed, bytes) and _sealed(place, data := sealed[len(_SEAL) + 4 :]) == sealed:
        return data
    raise ValueError("it is not what was kept")


class StaleCache(ProcessBound, Generic[T]):
    """Answers with the last good value where there is no better one.

    A value younger than `max_age` seconds answers at once. Else it is fetched; when that fails by one of `errors`, a
    value of at most `max_stale_age` seconds answers, marked stale. Any other error is an answer, and reaches the
    caller: so is a 404. By default `errors` are refusals (CircuitError), ConnectionError and TimeoutError.

    `name` sets the cache apart from others in its store. `dump` makes bytes of a value, which `load` understands:
    by default it is JSON. A value or key of more than `largest` bytes is not kept. A store that is away costs the
    cache, never an answer. `clock` returns monotonic nanoseconds.
    """

    def __init__(
        self,
        name: str,
        store: Store,
        *,
        max_stale_age: float,
        max_age: float = 0.0,
        errors: Kinds = (CircuitError, ConnectionError, TimeoutError),
        dump: Callable[[T], bytes] = _dump,
        load: Callable[[bytes], T] = json.loads,
        largest: int = 65_536,
        clock: Callable[[], int] = monotonic_ns,
    ) -> None:
        if not 0 < max_stale_age <= _DAY:
            raise ConfigError("max_stale_age", "be above 0 and at most 24h, in seconds", max_stale_age)
        if not 0 <= max_age <= max_stale_age:
            raise ConfigError("max_age", f"be from 0 to max_stale_age ({max_stale_age:g} s)", max_age)
        #: of the cache, within its store
        self.name = name
        self._store = store
        self._usable, self._fresh = nanoseconds(max_stale_age), nanoseconds(max_age)
        self._stands_in = predicate("errors", errors)
        self._dump, self._load = dump, load
        self._largest = largest
        self._clock = clock
        self._breaker: StoreBreaker[None] = StoreBreaker(f"stale cache {name!r}", clock)
        self._told = False

    def call(self, key: str, fetch: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> CachedValue[T]:
        """Return what fetch(*args, **kwargs) returns, or has returned for this key. Raises what it raises."""
        if self._fresh and (kept := self._find(key, self._fresh, stale=False)):
            return kept
        started = self._clock()
        try:
            value = fetch(*args, **kwargs)
        except Exception as error:
            if self._covers(error) and (kept := self._find(key, self._usable, stale=True)):
                return kept
            raise
        require_done(value)
        self._keep(key, value, started)
        return CachedValue(value)

    def _covers(self, error: Exception) -> bool:
        if isinstance(error, UnseenOutcomeError):
            return False
        if self._stands_in(error):
            return True
        return isinstance(error, ExceptionGroup) and any(map(self._stands_in, leaves(error)))

    def _find(self, key: str, oldest: int, *, stale: bool) -> CachedValue[T] | None:
        place = self._place(key)
        found = self._breaker.call(lambda: self._store.get(place), None)
        if found is None:
            return None
        try:
            data, age = found
            if type(age) is not int or age < 0:
                raise ValueError(f"its age is {age!r:.80}")
            if age > oldest:
                return None
            value = self._load(_unsealed(place, data))
        except Exception as error:  # noqa: BLE001 - another release, or somebody else, may have kept it
            told, self._told = self._told, True
            if not told:
                log.warning("stale cache %r: what is kept for %r cannot be read: %r", self.name, key, error)
            return None
        self._told = False
        return CachedValue(value, age / 1e9, stale)

    def _keep(self, key: str, value: T, started: int) -> None:
        place, age = self._place(key), max(self._clock() - started, 0)
        try:
            data = self._dump(value)
            size, data = max(len(data), len(key)), _sealed(place, data)
        except Exception:  # the caller has asked for a value, and here it is
            log.exception("stale cache %r: the value of %r cannot be kept", self.name, key)
            return
        if size <= self._largest:
            # The age, as of the question: an answer that was long on its way may be older than one that overtook it.
            self._breaker.call(lambda: self._store.put(place, data, age), None)

    def _place(self, key: str) -> str:
        # Quoted, since a key may be what a customer sent: a lone surrogate, which no store takes, or another's name.
        return f"{quote(self.name, safe='')}/{quote(key, errors='surrogatepass')}"
