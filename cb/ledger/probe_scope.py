"""Calls within calls: the probes that the running code is inside of.

A call inside a probe of the same breaker, in the same thread, task or context, belongs to that probe. It needs no
permit: the probe holds one, and would wait in vain for a verdict that depends on a second one.
"""

import weakref
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Protocol


class Enclosing(Protocol):
    """Part of a tally that the scope of its probe needs."""

    scope: "Scope | None"


class Scope:
    """The inside of one probe. It ends when the tally of the probe says so, or with the tally."""

    __slots__ = ("_tally", "circuit", "generation", "outer")

    def __init__(self, tally: Enclosing, circuit: object, generation: int) -> None:
        # Not the tally itself: a call that is cut off between two steps must lose it, and with it its permit.
        self._tally = weakref.ref(tally)
        #: equal for all breakers that have the same row of a ledger
        self.circuit = circuit
        #: the stay that has admitted the probe
        self.generation = generation
        #: the scope around this one, perhaps of another breaker
        self.outer: Scope | None = None

    @property
    def ended(self) -> bool:
        """True once the probe has ended."""
        tally = self._tally()
        return tally is None or tally.scope is not self


_INNERMOST: ContextVar[Scope | None] = ContextVar("cb.scope", default=None)


def enter(scope: Scope) -> None:
    """Note that the running code is inside of a probe from now on."""
    scope.outer = next(_scopes(), None)
    _INNERMOST.set(scope)


def leave(tally: Enclosing) -> None:
    """Note that a probe has ended, in whichever context."""
    scope, tally.scope = tally.scope, None
    if scope is not None and _INNERMOST.get() is scope:
        _INNERMOST.set(scope.outer)


def inside(circuit: object, generation: int) -> bool:
    """Return whether the running code is inside of a probe of a circuit that was admitted in that stay."""
    return any(scope.circuit == circuit and scope.generation == generation for scope in _scopes())


def _scopes() -> Iterator[Scope]:
    scope = _INNERMOST.get()
    while scope is not None:
        if not scope.ended:
            yield scope
        scope = scope.outer
