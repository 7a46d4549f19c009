"""What tests of code that uses breakers need: a clock that stands still, a breaker in any state, real processes.

```python
clock = FakeClock()
breaker = breaker_in(State.OPEN, clock=clock)
with pytest.raises(CircuitOpenError):
    breaker.call(fetch)
clock.advance(30)

with workers(4) as processes:
    processes[0].call(fail_often, path)   # a function of a module, whose breaker lies in Ledger.in_file(path)
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
from .config import BreakerConfig, nanoseconds
from .ledger.ledger import Ledger
from .pickling import PortableError
from .states import HELD, State


class FakeClock:
    """Monotonic nanoseconds that stand still until `advance`. Pass it as `clock=`."""

    def __init__(self, seconds: float = 1_000) -> None:
        #: nanoseconds
        self.now = nanoseconds(seconds)

    def __call__(self) -> int:
        return self.now

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now += nanoseconds(seconds)


def breaker_in(
    state: State,
    config: BreakerConfig | None = None,
    *,
    name: str = "test",
    ledger: Ledger | None = None,
    clock: FakeClock | None = None,
) -> CircuitBreaker:
    """Return a breaker in a state, brought there as a service would bring it, on a clock of its own.

    Its open time has no jitter. A HALF_OPEN one has all its permits.
    """
    clock = clock or FakeClock()
    config = replace(config or BreakerConfig(), timeout_jitter=0.0)
    breaker = CircuitBreaker(name, config, ledger=ledger, clock=clock)
    if state in HELD:
        breaker.hold(state, reason="test", author="test")
    elif state is not State.CLOSED:
        only_slow = config.failure_threshold is config.failure_rate_threshold is None
        for _ in range(max(config.failure_threshold or 0, config.minimum_requests)):
            with suppress(_Fault):
                breaker.call(_fail, config.slow_call_duration if only_slow else 0, clock)
            if breaker.state is State.OPEN:
                break
        if state is State.HALF_OPEN:
            clock.advance(breaker.snapshot().retry_after or 0)
            with suppress(KeyboardInterrupt):  # a probe that is interrupted gives its permit back
                breaker.call(_interrupt)
    if breaker.state is not state:
        raise ValueError(f"{config} does not lead to {state} by calls that fail one after the other")
    return breaker


@contextmanager
def isolated_ledgers() -> Iterator[Path]:
    """Put the ledgers that `shm://` names into a new directory, those of child processes too.

    Enter it before the modules under test are imported: they may open theirs then. The pytest plugin does so. It sets
    $CB_STATE_DIR until it is left; a ledger of `file://`, or one opened before, stays where it is. The directory is
    removed when the process ends, as its ledgers live as long.
    """
    before, directory = os.environ.get("CB_STATE_DIR"), tempfile.mkdtemp(prefix="cb-tests-")
    atexit.register(_remove, directory, os.getpid())
    os.environ["CB_STATE_DIR"] = directory
    try:
        yield Path(directory)
    finally:
        if before is None:
            os.environ.pop("CB_STATE_DIR", None)
        else:
            os.environ["CB_STATE_DIR"] = before


def _remove(directory: str, owner: int) -> None:
    if os.getpid() == owner:  # a forked child that ends leaves it to the others
        shutil.rmtree(directory, ignore_errors=True)


class Worker:
    """A process that runs functions when told."""

    def __init__(self, process: BaseProcess, pipe: Connection) -> None:
        #: with its `pid`
        self.process = process
        self._pipe = pipe
        self._sent = 0

    def call(self, fn: Callable[..., Any], *args: Any) -> Any:
        """Return what the function returns there, or raise what it raises. Function and values must be picklable."""
        self.send(fn, *args)
        number = 0
        while number != self._sent:  # answers to what was only sent come first
            number, failed, value = self._pipe.recv()
        if failed:
            raise value
        return value

    def send(self, fn: Callable[..., Any], *args: Any) -> None:
        """Begin a call whose end nobody waits for."""
        self._sent += 1
        self._pipe.send((self._sent, fn, args))

    def kill(self) -> None:
        """End the process without a word, as the kernel does when memory is short."""
        self.process.kill()
        self.process.join()

    def stop(self) -> None:
        """Freeze the process, until `resume`."""
        os.kill(self.process.pid or 0, signal.SIGSTOP)

    def resume(self) -> None:
        """Let the process go on."""
        os.kill(self.process.pid or 0, signal.SIGCONT)


@contextmanager
def workers(count: int, method: str = "spawn") -> Iterator[list[Worker]]:
    """Run that many processes, killed at the end of the block. `method` is one of multiprocessing's start methods."""
    context = multiprocessing.get_context(method)
    started = []
    try:
        for _ in range(count):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs,), daemon=True)  # type: ignore[attr-defined]  # typeshed knows it for each method only
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
                answer = (number, False, fn(*args))
            except Exception as error:  # noqa: BLE001 - it is the caller's
                answer = (number, True, error)
            pipe.send(answer)


class _Fault(PortableError):
    """A failure, made to open a circuit."""


def _fail(seconds: float, clock: FakeClock) -> None:
    clock.advance(seconds)
    raise _Fault


def _interrupt() -> None:
    raise KeyboardInterrupt
