"""Exchanges with dependencies over the network, for a listener that wants to see them from begin to end."""

from collections.abc import MutableMapping
from types import TracebackType
from typing import Self

from cb.breaker import CircuitBreaker
from cb.bulkhead import Bulkhead
from cb.events import Event
from cb.ledger.counters import DETACHED, Counters
from cb.ledger.layout import state_of
from cb.log import Log
from cb.states import State

log = Log(__name__)


class CallObserver:
    """One exchange, as nobody sees it. The request is sent in its `with` block, which ends it only by an exception."""

    __slots__ = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        pass

    def response_received(self, status: int) -> None:
        """Be told the status of the answer, whose body is still to come."""

    def ended(self, error: BaseException | None = None) -> None:
        """Be told how it ended, for the first time or again; only the first counts."""


UNOBSERVED = CallObserver()


class HTTPObserver:
    """A listener that sees exchanges too, beside the events. What sees an exchange must raise nothing."""

    def __call__(self, event: Event) -> object:
        """Be told of an event."""

    def begin(
        self, breaker: str, state: State, method: str, url: str, headers: MutableMapping[str, str]
    ) -> CallObserver:
        """Return what shall see an exchange that a circuit in that state has admitted. It may add headers."""
        raise NotImplementedError


def observe(
    breaker: CircuitBreaker | Bulkhead, call: Counters, method: str, url: str, headers: MutableMapping[str, str]
) -> CallObserver:
    """Return what sees an exchange, for the first observer among the breaker's listeners."""
    asked = breaker.breaker if isinstance(breaker, Bulkhead) else breaker
    for listener in asked.listeners:
        if isinstance(listener, HTTPObserver):
            state = asked.state if call.word == DETACHED else state_of(call.word)
            try:
                return listener.begin(asked.name, state, method, url, headers)
            except Exception:
                log.exception("observer %r failed", listener)
                break
    return UNOBSERVED
