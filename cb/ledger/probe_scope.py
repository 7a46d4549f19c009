"""Nested calls: the probes that the running code is inside.

A call inside a probe of the same breaker, in the same thread, task or context, is part of that probe. It needs no
permit: the probe holds one, and with a second one the round could never be decided.
"""

import weakref
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Protocol


class Enclosing(Protocol):
    """The part of `Counters` that a scope needs."""

    scope: "ProbeScope | None"


class ProbeScope:
    """The scope of one probe. It ends with `leave`, or when the counters of the probe are dropped."""

    __slots__ = ("_counters", "circuit", "generation", "outer")

    def __init__(self, counters: Enclosing, circuit: object, generation: int) -> None:
        # Weak: a call that is cut off between two steps must drop its counters, and with them its permit.
        self._counters = weakref.ref(counters)
        #: equal for all breakers of one record
        self.circuit = circuit
        #: generation that admitted the probe
        self.generation = generation
        #: the scope around this one, perhaps of another breaker
        self.outer: ProbeScope | None = None

    @property
    def ended(self) -> bool:
        """True once the probe has ended."""
        counters = self._counters()
        return counters is None or counters.scope is not self


_INNERMOST: ContextVar[ProbeScope | None] = ContextVar("cb.scope", default=None)


def enter(scope: ProbeScope) -> None:
    """Put the running code inside a probe."""
    scope.outer = next(_scopes(), None)
    _INNERMOST.set(scope)


def step_out(scope: ProbeScope) -> None:
    """Put the running code outside of a probe that goes on, until `enter`."""
    if _INNERMOST.get() is scope:
        _INNERMOST.set(scope.outer)


def leave(counters: Enclosing) -> None:
    """End the scope of a probe, in any context."""
    scope, counters.scope = counters.scope, None
    if scope is not None and _INNERMOST.get() is scope:
        _INNERMOST.set(scope.outer)


def inside(circuit: object, generation: int) -> bool:
    """Return True if the running code is inside a probe that a generation of a circuit admitted."""
    return any(scope.circuit == circuit and scope.generation == generation for scope in _scopes())


def _scopes() -> Iterator[ProbeScope]:
    scope = _INNERMOST.get()
    while scope is not None:
        if not scope.ended:
            yield scope
        scope = scope.outer
