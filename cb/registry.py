"""Registry: one breaker per dependency."""

import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import fields
from itertools import islice
from types import FunctionType
from typing import Any

from .background.event_loop import on_event_loop
from .background.fork import detect_fork, register_fork_reset
from .breaker import CircuitBreaker, admission_of, project_ledger
from .circuit import Circuit
from .clocks import monotonic_ns, resolve_clock, wall_ns
from .config import BreakerConfig
from .control import BreakerControl
from .errors import ConfigError
from .events import Listener
from .handles import Handle, clock_argument
from .ledger.ledger import Ledger
from .snapshot import Snapshot, Stats, read_snapshot, read_stats
from .state.outcome import Classifier, ErrorFilter
from .states import State, counted

_DEFAULT_RULES: Mapping[str, Any] = {"failures": (Exception,), "ignored": (), "failed_result": None}
#: most breakers without room in the ledger that a registry keeps
MOST_APART = 1024
#: oldest of them that are examined for one that is not in use
_CANDIDATES = 16


class Registry(Handle):
    """Creates the breakers of a service, and returns them again by name.

    A breaker for which the ledger has no room is guarded in this process alone. A registry keeps 1024 of those; one
    more takes the place of an old one, if possible of one that is closed and had no calls lately. Code that still uses
    a breaker that was dropped in this way keeps it, and `get` returns it again.

    Args:
        ledger: Ledger of all its breakers; by default one of this process alone.
        shared: True for the ledger of the project, as in `CircuitBreaker`.
        defaults: Thresholds of every breaker.
        overrides: Thresholds by name of the breaker, in place of `defaults`.
        listeners: Listeners of every breaker that is created from now on.
        clock: Function that returns monotonic nanoseconds.
    """

    def __init__(
        self,
        *,
        ledger: Ledger | None = None,
        shared: bool = False,
        defaults: BreakerConfig | None = None,
        overrides: Mapping[str, BreakerConfig] | None = None,
        listeners: Sequence[Listener] = (),
        clock: Callable[[], int] = monotonic_ns,
    ) -> None:
        if shared and ledger is not None:
            raise ConfigError("shared", "be False where a ledger is given", shared)
        #: ledger of all its breakers
        self.ledger = ledger or (project_ledger() if shared else Ledger.in_memory())
        #: listeners of every breaker that is created from now on
        self.listeners = list(listeners)
        self._defaults = defaults or BreakerConfig()
        self._overrides = dict(overrides or {})
        self._clock = clock
        self._configs: dict[str, BreakerConfig] = {}  # given to `get`
        self._breakers: dict[str, CircuitBreaker] = {}
        self._apart: dict[str, CircuitBreaker] = {}  # those that had no room when they were created, oldest first
        self._forgotten: weakref.WeakValueDictionary[str, CircuitBreaker] = weakref.WeakValueDictionary()
        self._lock = threading.RLock()  # a signal handler may call `get` while its thread is inside it
        self._creating = False
        register_fork_reset(self)

    def __repr__(self) -> str:
        return f"<Registry of {counted(len(self._breakers), 'breaker')}, {self.ledger!r}>"

    def _origin(self) -> tuple[Any, ...]:
        # Breakers with rules of their own are created at once: a later `get` by name alone must not create others.
        made = {each.name: _rules_of(each) for each in self}
        rules = {name: dict(given) for name, given in made.items() if given != _DEFAULT_RULES}
        for name, config in self._configs.copy().items():
            rules.setdefault(name, {})["config"] = config
        return (
            _elsewhere,
            self.ledger,
            self._defaults,
            self._overrides,
            rules,
            clock_argument(resolve_clock(self._clock)),
        )

    def get(
        self,
        name: str,
        config: BreakerConfig | None = None,
        *,
        failures: ErrorFilter | None = None,
        ignored: ErrorFilter | None = None,
        failed_result: Callable[[Any], bool] | None = None,
    ) -> CircuitBreaker:
        """Return the breaker of a dependency, created at the first call.

        Args:
            name: Name of the dependency.
            config: Its thresholds, in place of `defaults`. They must equal `overrides`, where those have the name.
            failures: Exceptions that are failures, as in `CircuitBreaker`; by default every `Exception`.
            ignored: Exceptions that count as neither success nor failure; by default none.
            failed_result: Predicate of returned values that are failures; by default none is.

        Raises:
            ConfigError: The breaker exists with other rules or thresholds than those given here, or the name does not
                fit.
        """
        rules: dict[str, Any] = {}
        if failures is not None or ignored is not None or failed_result is not None:
            given = {"failures": failures, "ignored": ignored, "failed_result": failed_result}
            rules = {key: value for key, value in given.items() if value is not None}
        found = self._breakers.get(name)  # without the lock: a dict returns the breaker or nothing
        if found is None:
            detect_fork()
            # On an event loop not behind a thread that waits for the lock of the ledger: both then create one.
            with nullcontext() if self._creating and on_event_loop() else self._lock:
                found = self._breakers.get(name) or self._forgotten.get(name)
                if found is None:
                    if config is not None and name in self._overrides:
                        self._require_same_config(name, config)
                    self._creating = True
                    try:
                        found = CircuitBreaker(
                            name,
                            self._config_of(name) if config is None else config,
                            ledger=self.ledger,
                            listeners=self.listeners,
                            clock=self._clock,
                            **rules,
                        )
                    finally:
                        self._creating = False
                    rules = {}
                    if config is not None:
                        self._configs[name] = config
                self._keep(found)
        if config is not None:
            self._require_same_config(name, config)
        if rules:
            _require_same_rules(found, rules)
        return found

    def _config_of(self, name: str) -> BreakerConfig:
        return self._configs.get(name) or self._overrides.get(name, self._defaults)

    def _require_same_config(self, name: str, asked: object) -> None:
        if not isinstance(asked, BreakerConfig):
            raise ConfigError("config", "be a BreakerConfig", asked)
        source = "the registry's overrides have" if name in self._overrides else "the breaker was created with"
        for field in fields(BreakerConfig):
            value, present = getattr(asked, field.name), getattr(self._config_of(name), field.name)
            if value != present:
                raise ConfigError(field.name, f"be what {source} for {name!r}, {present}", value)

    def _keep(self, breaker: CircuitBreaker) -> None:
        if _is_apart(breaker):
            if len(self._apart) >= MOST_APART:
                self._forget_one()
            self._apart[breaker.name] = breaker
        self._breakers[breaker.name] = breaker

    def _forget_one(self) -> None:
        for name in [name for name, each in self._apart.items() if not _is_apart(each)]:
            del self._apart[name]  # the ledger has had room for it since
        if len(self._apart) < MOST_APART:
            return
        oldest = list(islice(self._apart, _CANDIDATES))
        name = next((name for name in oldest if _unused(self._apart[name])), oldest[0])
        for used in oldest[: oldest.index(name)]:
            self._apart[used] = self._apart.pop(used)  # moved to the end, so that the next search starts after it
        self._forgotten[name] = self._apart.pop(name)
        self._breakers.pop(name, None)

    def find(self, name: str) -> CircuitBreaker | None:
        """Return the breaker of that name that this registry has created; None if there is none."""
        return self._breakers.get(name)

    def control(self, name: str) -> BreakerControl | None:
        """Return the control of a breaker of the ledger, whichever process created it; None if there is none.

        The thresholds in force stay in force.
        """
        if found := self._breakers.get(name):
            return found.control
        if name not in self.ledger.names():
            return None
        return BreakerControl(
            Circuit(name, None, self.ledger, listeners=self.listeners, clock=self._clock, wall_clock=wall_ns)
        )

    def snapshots(self) -> Iterator[Snapshot]:
        """Yield a snapshot of every breaker of the ledger, by name, whichever process created it."""
        for name, mine in self._known():
            yield mine.snapshot() if mine else read_snapshot(self.ledger, name, self._clock())

    def stats(self) -> Iterator[Stats]:
        """Yield the stats of every breaker of the ledger, by name, whichever process created it."""
        for name, mine in self._known():
            yield mine.stats() if mine else read_stats(self.ledger, name, self._clock())

    def _known(self) -> Iterator[tuple[str, CircuitBreaker | None]]:
        breakers = self._breakers.copy()  # atomic: another thread may create one meanwhile
        return ((name, breakers.get(name)) for name in sorted({*breakers, *self.ledger.names()}))

    def __iter__(self) -> Iterator[CircuitBreaker]:
        return iter(sorted(self._breakers.copy().values(), key=lambda breaker: breaker.name))

    def reset_after_fork(self) -> None:
        """Replace the lock in a forked child: a thread of the parent may have held it."""
        self._lock = threading.RLock()
        self._creating = False


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


def _is_apart(breaker: CircuitBreaker) -> bool:
    """Return True while the ledger has no room for a breaker."""
    return admission_of(breaker).circuit.apart


def _rules_of(breaker: CircuitBreaker) -> Mapping[str, Any]:
    return admission_of(breaker).classifier.rules


def _require_same_rules(breaker: CircuitBreaker, given: Mapping[str, Any]) -> None:
    present = _rules_of(breaker)
    asked = Classifier(**{**_DEFAULT_RULES, **given}).rules
    for key in given:
        if not _same(asked[key], present[key]):
            rule = f"be what the breaker {breaker.name!r} was created with, {present[key]!r}"
            raise ConfigError(key, rule, asked[key])


def _same(one: object, other: object) -> bool:
    """Return True if two rules are equal. Functions are if one line of code has made both, with the same values."""
    if one == other or not (isinstance(one, FunctionType) and isinstance(other, FunctionType)):
        return one == other
    if one.__code__ is not other.__code__ or one.__defaults__ != other.__defaults__:
        return False
    return one.__kwdefaults__ == other.__kwdefaults__ and _enclosed(one) == _enclosed(other)


def _enclosed(function: FunctionType) -> list[object]:
    """Return the values of the variables around a function. One without a value counts as the cell itself."""
    values: list[object] = []
    for cell in function.__closure__ or ():
        try:
            values.append(cell.cell_contents)
        except ValueError:  # not assigned yet
            values.append(cell)
    return values


def _unused(breaker: CircuitBreaker) -> bool:
    seen = breaker.snapshot()
    return seen.state is State.CLOSED and not seen.in_flight and not seen.window.requests
