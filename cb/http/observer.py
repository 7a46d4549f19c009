"""Observers of HTTP requests: a hook for tracing, beside the events of a breaker."""

from collections.abc import MutableMapping
from types import TracebackType
from typing import Self

from cb import Call, CircuitBreaker, Event, Guard, State
from cb.log import Log

log = Log(__name__)


class CallObserver:
    """A no-op observer of one HTTP request.

    The request is sent inside its `with` block. The block ends the observation only if it raises: a body may still be
    unread after it. A subclass must not raise.
    """

    __slots__ = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        pass

    def response_received(self, status: int) -> None:
        """Record the status of the response. Its body has not been read yet."""

    def ended(self, error: BaseException | None = None) -> None:
        """Record the end of the request: its error, or None for success. Only the first call counts."""


UNOBSERVED = CallObserver()


class HTTPObserver:
    """A listener of breakers that also observes their HTTP requests. Add an instance to `listeners`."""

    def __call__(self, event: Event) -> object:
        """Handle an event."""

    def begin(
        self, breaker: str, state: State, method: str, url: str, headers: MutableMapping[str, str]
    ) -> CallObserver:
        """Return the observer of a request that is about to be sent.

        Args:
            breaker: Name of the breaker.
            state: State of the circuit that admitted the request.
            method: HTTP method.
            url: URL of the request, which may contain secrets.
            headers: Headers of the request; headers may be added.
        """
        raise NotImplementedError


def observe(guard: Guard, call: Call, method: str, url: object, headers: MutableMapping[str, str]) -> CallObserver:
    """Return the observer of a request, from the first HTTPObserver among the listeners of the guard's breaker.

    The `str` of the URL is made for an observer alone.
    """
    breaker = guard if type(guard) is CircuitBreaker else _breaker_of(guard)
    for listener in breaker.listeners if breaker is not None else ():
        if isinstance(listener, HTTPObserver):
            try:
                return listener.begin(guard.name, call.state, method, str(url), headers)
            except Exception:
                log.exception("HTTP observer %r failed", listener)
                break
    return UNOBSERVED


def probe_timeout_of(guard: Guard) -> float | None:
    """Return the seconds that a probe of the guard's breaker may take, None without a limit."""
    breaker = _breaker_of(guard)
    return breaker.config.probe_timeout if breaker else None


def _breaker_of(guard: Guard) -> CircuitBreaker | None:
    """Return the breaker of a bulkhead or a policy, the breaker itself, or None for a guard of the user's own."""
    found = getattr(guard, "breaker", guard)
    return found if isinstance(found, CircuitBreaker) else None
