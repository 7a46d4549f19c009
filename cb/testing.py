"""Test kit for code that uses breakers: a manual clock, a breaker in any state, real worker processes.

```python
clock = FakeClock()
breaker = breaker_in(State.OPEN, clock=clock)
with pytest.raises(CircuitOpenError):
    breaker.call(fetch)
clock.advance(30)

with workers(4) as processes:
    processes[0].call(fail_often, path)   # a module-level function; its breaker uses Ledger.in_file(path)
    processes[1].kill()
```
"""

import atexit
import multiprocessing
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from .breaker import CircuitBreaker
from .config import BreakerConfig, Duration, nanoseconds, to_seconds
from .control import ACTIONS
from .ledger.ledger import Ledger
from .pickling import PortableError
from .states import HELD, State


class FakeClock:
    """A monotonic clock that only moves when `advance` is called. Pass it as `clock=`.

    Args:
        seconds: Time at the start, in seconds or as a timedelta.
    """

    def __init__(self, seconds: Duration = 1_000) -> None:
        #: current time in nanoseconds
        self.now = nanoseconds(to_seconds(seconds, "seconds"))

    def __repr__(self) -> str:
        return f"<FakeClock at {self.now / 1e9:.10g} s>"

    def __call__(self) -> int:
        return self.now

    def advance(self, seconds: Duration) -> None:
        """Move the clock forward, by seconds or a timedelta."""
        self.now += nanoseconds(to_seconds(seconds, "seconds"))


def breaker_in(
    state: State,
    config: BreakerConfig | None = None,
    *,
    name: str = "test",
    ledger: Ledger | None = None,
    clock: FakeClock | None = None,
) -> CircuitBreaker:
    """Return a breaker in a state that it has reached by calls, as it would in a service.

    Its open time has no jitter. In HALF_OPEN, all its permits are free.

    Args:
        state: State of the breaker.
        config: Thresholds; `BreakerConfig()` by default.
        name: Name of the breaker.
        ledger: Ledger of the breaker; process memory by default.
        clock: Clock of the breaker; a new `FakeClock` by default.

    Raises:
        ValueError: Consecutive failures do not bring a breaker with these thresholds into that state.
    """
    clock = clock or FakeClock()
    config = replace(config or BreakerConfig(), timeout_jitter=0.0)
    breaker = CircuitBreaker(name, config, ledger=ledger, clock=clock)
    if state in HELD:
        ACTIONS[state](breaker.control, reason="test", author="test")
    elif state is not State.CLOSED:
        only_slow = config.failure_threshold is config.failure_rate_threshold is None
        for _ in range(max(config.failure_threshold or 0, config.minimum_requests)):
            with suppress(_Fault):
                breaker.call(_fail, config.slow_call_duration if only_slow else 0, clock)
            if breaker.state is State.OPEN:
                break
        if state is State.HALF_OPEN:
            clock.advance(breaker.snapshot().retry_after or 0)
            with suppress(KeyboardInterrupt):  # an interrupted probe returns its permit
                breaker.call(_interrupt)
    if breaker.state is not state:
        raise ValueError(f"{config} does not reach {state} by consecutive failures")
    return breaker


@contextmanager
def isolated_ledgers() -> Iterator[Path]:
    """Create the ledgers of `shm://` URLs in a new directory, also in child processes. Yields the directory.

    Enter the context before importing the modules under test, which may open their ledgers at import; the pytest plugin
    does so. The context sets $CB_STATE_DIR, and unsets $CB_LEDGER, which may name a file. Ledgers of `file://` URLs,
    and those opened before, are not affected. The directory is removed when the process ends, because its ledgers are
    in use until then.
    """
    before = {name: os.environ.pop(name, None) for name in ("CB_STATE_DIR", "CB_LEDGER")}
    directory = tempfile.mkdtemp(prefix="cb-tests-")
    atexit.register(_remove, directory, os.getpid())
    os.environ["CB_STATE_DIR"] = directory
    try:
        yield Path(directory)
    finally:
        os.environ.pop("CB_STATE_DIR", None)
        os.environ.update({name: value for name, value in before.items() if value is not None})


def _remove(directory: str, owner: int) -> None:
    if os.getpid() == owner:  # not by a forked child
        shutil.rmtree(directory, ignore_errors=True)


class Worker:
    """A process that runs functions sent to it. `workers` starts it."""

    def __init__(self, process: BaseProcess, pipe: Connection) -> None:
        #: the process, with its `pid`
        self.process = process
        self._pipe = pipe
        self._sent = 0

    def __repr__(self) -> str:
        try:
            return f"<Worker {self.process.pid} {'running' if self.process.is_alive() else 'ended'}>"
        except ValueError:  # the process object has been closed
            return "<Worker closed>"

    def call(self, fn: Callable[..., Any], *args: Any) -> Any:
        """Run a function in the process; return its result or raise its exception. All values must be picklable."""
        self.send(fn, *args)
        number = 0
        while number != self._sent:  # results of calls that were only sent come first
            number, failed, value = self._pipe.recv()
        if failed:
            raise value
        return value

    def send(self, fn: Callable[..., Any], *args: Any) -> None:
        """Start a call in the process without waiting for its result."""
        self._sent += 1
        self._pipe.send((self._sent, fn, args))

    def kill(self) -> None:
        """Kill the process with SIGKILL, as the kernel does when memory runs out."""
        self.process.kill()
        self.process.join()

    def stop(self) -> None:
        """Suspend the process with SIGSTOP, until `resume`."""
        os.kill(self.process.pid or 0, signal.SIGSTOP)

    def resume(self) -> None:
        """Continue the process after `stop`."""
        os.kill(self.process.pid or 0, signal.SIGCONT)


@contextmanager
def workers(count: int, method: str = "spawn") -> Iterator[list[Worker]]:
    """Start worker processes, and kill them at the end of the block.

    Args:
        count: Number of processes.
        method: Start method of multiprocessing: `spawn`, `fork` or `forkserver`.
    """
    context = multiprocessing.get_context(method)
    started = []
    try:
        for _ in range(count):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs,), daemon=True)  # type: ignore[attr-defined]  # typeshed declares it for each start method only
            process.start()
            theirs.close()
            started.append(Worker(process, ours))
        yield started
    finally:
        for worker in started:
            worker.kill()
            worker.process.close()


def _serve(pipe: Connection) -> None:
    with suppress(EOFError):
        while True:
            number, fn, args = pipe.recv()
            try:
                result = (number, False, fn(*args))
            except Exception as error:  # noqa: BLE001 - raised again by `call`
                result = (number, True, error)
            pipe.send(result)


class _Fault(PortableError):
    """A failure that opens the circuit."""


def _fail(seconds: float, clock: FakeClock) -> None:
    clock.advance(seconds)
    raise _Fault


def _interrupt() -> None:
    raise KeyboardInterrupt
