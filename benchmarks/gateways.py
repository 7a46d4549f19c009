"""The gateway with its breakers replaced, for comparison.

`python -m benchmarks.gateways VARIANT` serves it as `python -m gateway` does. The gateway itself has no code for this:
the breakers and bulkheads that its `Dependencies` return are replaced before gunicorn forks the workers.
"""

import sys
from typing import Any

import interlock
from gunicorn.app.wsgiapp import run

from cb import CallGuard, CircuitBreaker, State
from gateway.services.dependencies import Dependencies
from servicekit.database import Database


class PassedCall:
    """The token of a call that no breaker of ours has admitted. Settling it does nothing."""

    probe, state = False, State.CLOSED

    def succeed(self, result: object = None) -> None:
        pass

    def fail(self, error: BaseException) -> None:
        pass

    def discard(self) -> None:
        pass

    def cancel(self) -> None:
        pass

    def pause(self, *, answered: bool = True) -> None:
        pass

    def resume(self) -> None:
        pass

    def enclose(self) -> None:
        pass


class PassThrough:
    """A guard that admits every call. All attributes other than calls are those of the breaker."""

    listeners = ()

    def __init__(self, breaker: CircuitBreaker) -> None:
        self._breaker = breaker

    def __getattr__(self, name: str) -> Any:
        return getattr(self._breaker, name)

    def call(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        return fn(*args, **kwargs)

    def begin(self) -> PassedCall:
        return PassedCall()

    def guard(self) -> CallGuard:
        return CallGuard(self)  # type: ignore[arg-type]  # its token stands for one of ours


class Interlock(PassThrough):
    """A breaker of interlock with the same thresholds, except consecutive failures and a shared bulkhead."""

    def __init__(self, breaker: CircuitBreaker) -> None:
        super().__init__(breaker)
        ours = breaker.config
        config = interlock.Config(
            failure_rate_threshold=ours.failure_rate_threshold or 1.0,
            minimum_number_of_calls=ours.minimum_requests,
            slow_call_duration_threshold=ours.slow_call_duration,
            slow_call_rate_threshold=ours.slow_call_rate_threshold or 1.0,
            permitted_calls_in_half_open=ours.max_requests,
            wait_duration_in_open=ours.timeout,
            window_type=interlock.WindowType.TIME_BASED,
            window_size=round(ours.interval),
        )
        self._peer = interlock.CircuitBreaker(name=breaker.name, config=config)

    def call(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        return self._peer.call(fn, *args, **kwargs)

    def begin(self) -> PassedCall:
        return PeersCall(self._peer)


class PeersCall(PassedCall):
    """The token of a call that a breaker of interlock has admitted."""

    def __init__(self, peer: interlock.CircuitBreaker) -> None:
        self._peer = peer
        peer.__enter__()

    def succeed(self, result: object = None) -> None:  # noqa: ARG002 - the token of ours has it
        self._peer.__exit__(None, None, None)

    def fail(self, error: BaseException) -> None:
        self._peer.__exit__(type(error), error, error.__traceback__)

    def discard(self) -> None:
        self.succeed()


VARIANTS = {"without": PassThrough, "interlock": Interlock}


def main(variant: str) -> None:
    """Serve the gateway until this process is terminated."""
    find = Dependencies.breaker
    made: dict[str, PassThrough] = {}

    def replacement(services: Dependencies, name: str) -> Any:
        return made.get(name) or made.setdefault(name, VARIANTS[variant](find(services, name)))

    Dependencies.breaker = Dependencies.bulkhead = replacement  # type: ignore[assignment,method-assign]  # the purpose of this module
    if variant == "without":
        Database.guard = lambda *_: None  # type: ignore[method-assign]  # no breaker before a transaction
    sys.argv[1:] = ["-c", "config/gunicorn.conf.py", "gateway:create_app()"]
    run()


if __name__ == "__main__":
    main(sys.argv[1])
