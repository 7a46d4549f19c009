"""Libraries that guard coroutines, behind one interface, with the thresholds of `peers`."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import aiobreaker
import circuitbreaker
import interlock
import nopanic
import purgatory
from purgatory.domain.model import OpenedState

from cb import CircuitBreaker, CircuitOpenError, Ledger

from .peers import NAME, OURS, Setting, cb_config

Coroutine = Callable[..., Awaitable[object]]
Decorator = Callable[[Coroutine], Coroutine]


@dataclass(frozen=True, slots=True)
class AsyncLibrary:
    """A way to guard a coroutine function."""

    name: str
    #: error of a rejected call
    rejection: type[Exception]
    #: return the decorator of a new breaker
    breaker: Callable[[Setting], Decorator]


def _file(setting: Setting) -> Decorator:
    return CircuitBreaker(NAME, cb_config(setting), ledger=Ledger.in_file(setting.directory / "ledger"))


def _memory(setting: Setting) -> Decorator:
    return CircuitBreaker(NAME, cb_config(setting))


def _circuitbreaker(setting: Setting) -> Decorator:
    decorator: Decorator = circuitbreaker.circuit(setting.failures, setting.timeout, name=NAME)
    return decorator


def _aiobreaker(setting: Setting) -> Decorator:
    decorator: Decorator = aiobreaker.CircuitBreaker(setting.failures, timedelta(seconds=setting.timeout), name=NAME)
    return decorator


def _interlock(setting: Setting) -> Decorator:
    # Those that have only rates: if all calls of the window must fail, they are consecutive failures.
    config: Any = interlock.Config(
        failure_rate_threshold=1.0,
        minimum_number_of_calls=setting.failures,
        window_size=setting.failures,
        wait_duration_in_open=setting.timeout,
        permitted_calls_in_half_open=1,
    )
    decorator: Decorator = interlock.CircuitBreaker(name=NAME, config=config)
    return decorator


def _nopanic(setting: Setting) -> Decorator:
    decorator: Decorator = nopanic.circuit_breaker(
        failure_threshold=1.0, min_calls=setting.failures, reset_timeout=setting.timeout, name=NAME
    )
    return decorator


def _purgatory(setting: Setting) -> Decorator:
    return purgatory.AsyncCircuitBreakerFactory(setting.failures, setting.timeout)(NAME)


ASYNC_LIBRARIES = {
    library.name: library
    for library in (
        AsyncLibrary(OURS, CircuitOpenError, _file),
        AsyncLibrary(f"{OURS}, memory", CircuitOpenError, _memory),
        AsyncLibrary("circuitbreaker", circuitbreaker.CircuitBreakerError, _circuitbreaker),
        AsyncLibrary("aiobreaker", aiobreaker.CircuitBreakerError, _aiobreaker),
        AsyncLibrary("interlock", interlock.CircuitOpenError, _interlock),
        AsyncLibrary("nopanic", nopanic.CircuitOpen, _nopanic),
        AsyncLibrary("purgatory", OpenedState, _purgatory),
    )
}
