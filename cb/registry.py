"""One breaker per dependency."""

import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from .background.fork import detect_fork, register_fork_reset
from .breaker import CircuitBreaker
from .clocks import chosen, monotonic_ns, wall_ns
from .config import BreakerConfig
from .control import BreakerControl
from .events import Listener
from .handles import Handle, clock_argument
from .ledger.ledger import Ledger
from .snapshot import Snapshot, Stats, see, see_figures
from .state.outcome import Kinds
from .states import State

_DEFAULT_RULES = {"failures": (Exception,), "ignored": (), "failed_result": None}
#: breakers for which the ledger has no room that a registry keeps; beyond that, the oldest are forgotten
MOST_APART = 1024
#: breakers that are looked at for one that nobody will miss
_CANDIDATES = 16


class Registry(Handle):
    """Makes the breakers of a service, and finds them again by name.

    A breaker for which the ledger has no room is guarded in this process alone. Of those a registry keeps 1024: one
    more takes the place of an old one, if possible of one that is closed and has had no calls lately. What still uses a
    forgotten breaker keeps it, and then it is found again.
    """

    def __init__(
        self,
        *,
        ledger: Ledger | None = None,
        defaults: BreakerConfig | None = None,
        overrides: Mapping[str, BreakerConfig] | None = None,
        listeners: Sequence[Listener] = (),
        clock: Callable[[], int] = monotonic_ns,
    ) -> None:
        #: where the state of all its breakers lies
        self.ledger = ledger or Ledger.in_memory()
        #: listeners of every breaker that is made from now on
        self.listeners = list(listeners)
        self._defaults = defaults or BreakerConfig()
        self._overrides = dict(overrides or {})
        self._clock = clock
        self._breakers: dict[str, CircuitBreaker] = {}
        self._apart: dict[str, CircuitBreaker] = {}  # those of them that were apart when they were made, oldest first
        self._forgotten: weakref.WeakValueDictionary[str, CircuitBreaker] = weakref.WeakValueDictionary()
        self._lock = threading.RLock()  # a signal handler may ask for a breaker while its thread makes one
        register_fork_reset(self)

    def _origin(self) -> tuple[Any, ...]:
        # Those with rules of their own are made at once: who asks for them by name alone must not make others.
        made = {each.name: each._classifier.rules for each in self}  # noqa: SLF001 - it has made them
        rules = {name: given for name, given in made.items() if given != _DEFAULT_RULES}
        return _elsewhere, self.ledger, self._defaults, self._overrides, rules, clock_argument(chosen(self._clock))

    def get(
        self,
        name: str,
        *,
        failures: Kinds = (Exception,),
        ignored: Kinds = (),
        failed_result: Callable[[Any], bool] | None = None,
    ) -> CircuitBreaker:
        """Return the breaker of a dependency, made at the first call, whose rules of outcome hold from then on."""
        # Read without the lock: a dict gives the breaker or nothing.
        found = self._breakers.get(name)
        if found is None:
            detect_fork()
            with self._lock:
                found = self._breakers.get(name) or self._forgotten.get(name)
                if found is None:
                    found = CircuitBreaker(
                        name,
                        self._overrides.get(name, self._defaults),
                        ledger=self.ledger,
                        failures=failures,
                        ignored=ignored,
                        failed_result=failed_result,
                        listeners=self.listeners,
                        clock=self._clock,
                    )
                self._keep(found)
        return found

    def _keep(self, breaker: CircuitBreaker) -> None:
        if breaker.apart:
            if len(self._apart) >= MOST_APART:
                self._forget_one()
            self._apart[breaker.name] = breaker
        self._breakers[breaker.name] = breaker

    def _forget_one(self) -> None:
        for name in [name for name, each in self._apart.items() if not each.apart]:
            del self._apart[name]  # it has found room meanwhile
        if len(self._apart) < MOST_APART:
            return
        oldest = list(islice(self._apart, _CANDIDATES))
        name = next((name for name in oldest if _unused(self._apart[name])), oldest[0])
        for seen in oldest[: oldest.index(name)]:
            self._apart[seen] = self._apart.pop(seen)  # it is in use: the next one looks further
        self._forgotten[name] = self._apart.pop(name)
        self._breakers.pop(name, None)

    def find(self, name: str) -> CircuitBreaker | None:
        """Return the breaker of that name, None if there is none."""
        return self._breakers.get(name)

    def steer(self, name: str) -> BreakerControl | None:
        """Return what holds and resets the circuit of that name, None if the ledger has none.

        It finds those of other processes too, and leaves the thresholds in force as they are.
        """
        if (found := self._breakers.get(name)) or name not in self.ledger.names():
            return found
        return BreakerControl(name, None, self.ledger, listeners=self.listeners, clock=self._clock, wall_clock=wall_ns)

    def snapshots(self) -> Iterator[Snapshot]:
        """Yield a snapshot of every breaker of the ledger by name, in whichever process it was made."""
        for name, mine in self._known():
            yield mine.snapshot() if mine else see(self.ledger, name, self._clock())

    def figures(self) -> Iterator[Stats]:
        """Yield the figures of every breaker of the ledger by name, in whichever process it was made."""
        for name, mine in self._known():
            yield mine.stats() if mine else see_figures(self.ledger, name, self._clock())

    def _known(self) -> Iterator[tuple[str, CircuitBreaker | None]]:
        breakers = self._breakers.copy()  # in one step: another thread may make one meanwhile
        return ((name, breakers.get(name)) for name in sorted({*breakers, *self.ledger.names()}))

    def __iter__(self) -> Iterator[CircuitBreaker]:
        return iter(sorted(self._breakers.copy().values(), key=lambda breaker: breaker.name))

    def reset_after_fork(self) -> None:
        """Forget a lock that another thread may have held, in a forked child."""
        self._lock = threading.RLock()


def _elsewhere(
    ledger: Ledger,
    defaults: BreakerConfig,
    overrides: Mapping[str, BreakerConfig],
    rules: Mapping[str, Mapping[str, Any]],
    clock: Mapping[str, Any],
) -> Registry:
    registry = Registry(ledger=ledger, defaults=defaults, overrides=overrides, **clock)
    for name, options in rules.items():
        registry.get(name, **options)
    return registry


def _unused(breaker: CircuitBreaker) -> bool:
    seen = breaker.snapshot()
    return seen.state is State.CLOSED and not seen.in_flight and not seen.window.requests
