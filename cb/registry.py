"""One breaker per dependency."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from .breaker import CircuitBreaker
from .classify import Kinds
from .config import BreakerConfig
from .events import Listener
from .forks import notice, renew_in_children
from .ledger import Ledger
from .snapshot import Figures, Snapshot, see, see_figures
from .steering import Steering


class Registry:
    """Makes the breakers of a service, and finds them again by name."""

    def __init__(
        self,
        *,
        ledger: Ledger | None = None,
        defaults: BreakerConfig | None = None,
        overrides: Mapping[str, BreakerConfig] | None = None,
        listeners: Sequence[Listener] = (),
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        #: where the state of all its breakers lies
        self.ledger = ledger or Ledger.in_memory()
        #: listeners of every breaker that is made from now on
        self.listeners = list(listeners)
        self._defaults = defaults or BreakerConfig()
        self._overrides = dict(overrides or {})
        self._clock = clock
        self._breakers: dict[str, CircuitBreaker] = {}
        self._lock = threading.RLock()  # a signal handler may ask for a breaker while its thread makes one
        renew_in_children(self)

    def get(
        self,
        name: str,
        *,
        failures: Kinds = (Exception,),
        ignored: Kinds = (),
        failed_result: Callable[[Any], bool] | None = None,
    ) -> CircuitBreaker:
        """Return the breaker of a dependency, made at the first call, whose rules of outcome hold from then on."""
        # Read without the lock: a dict that only grows gives the breaker or nothing.
        found = self._breakers.get(name)
        if found is None:
            notice()
            with self._lock:
                found = self._breakers.get(name)
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
                    self._breakers[name] = found
        return found

    def find(self, name: str) -> CircuitBreaker | None:
        """Return the breaker of that name, None if there is none."""
        return self._breakers.get(name)

    def steer(self, name: str) -> Steering | None:
        """Return what holds and resets the circuit of that name, None if the ledger has none.

        It finds those of other processes too, and leaves the thresholds in force as they are.
        """
        if (found := self._breakers.get(name)) or name not in self.ledger.names():
            return found
        return Steering(name, None, self.ledger, listeners=self.listeners, clock=self._clock, wall_clock=time.time_ns)

    def snapshots(self) -> Iterator[Snapshot]:
        """Yield a snapshot of every breaker of the ledger by name, in whichever process it was made."""
        for name, mine in self._known():
            yield mine.snapshot() if mine else see(self.ledger, name, self._clock())

    def figures(self) -> Iterator[Figures]:
        """Yield the figures of every breaker of the ledger by name, in whichever process it was made."""
        for name, mine in self._known():
            yield mine.figures() if mine else see_figures(self.ledger, name, self._clock())

    def _known(self) -> Iterator[tuple[str, CircuitBreaker | None]]:
        return ((name, self._breakers.get(name)) for name in sorted({*self._breakers, *self.ledger.names()}))

    def __iter__(self) -> Iterator[CircuitBreaker]:
        return iter(sorted(self._breakers.values(), key=lambda breaker: breaker.name))

    def renew(self) -> None:
        """Forget a lock that another thread may have held, in a forked child."""
        self._lock = threading.RLock()
