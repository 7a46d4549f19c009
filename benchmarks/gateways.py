"""The gateway with its breakers replaced, for comparison.

`python -m benchmarks.gateways VARIANT` serves it as `python -m gateway` does. The gateway itself has no code for this:
the breakers and bulkheads that its `Dependencies` return are replaced before gunicorn forks the workers.
"""

import sys
from types import SimpleNamespace, TracebackType
from typing import Any

import interlock
from gunicorn.app.wsgiapp import run

from cb import CircuitBreaker
from gateway.services.dependencies import Dependencies
from servicekit.database import Database

#: Token of a call that is not a probe.
_CALL: Any = SimpleNamespace(probe=False, word=0)


class PassThrough:
    """A guard that admits every call. All attributes other than calls are those of the breaker."""

    listeners = ()

    def __init__(self, breaker: CircuitBreaker) -> None:
        self._breaker = breaker

    def __getattr__(self, name: str) -> Any:
        return getattr(self._breaker, name)

    def call(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        return fn(*args, **kwargs)

    def block(self) -> Any:
        return self

    def __enter__(self) -> Any:
        return _CALL

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        pass

    def begin(self) -> Any:
        return self.__enter__()

    def finish(self, _: Any, error: BaseException | None) -> None:
        self.__exit__(type(error) if error else None, error, None)


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

    def __enter__(self) -> Any:
        self._peer.__enter__()
        return _CALL

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._peer.__exit__(kind, error, trace)


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
