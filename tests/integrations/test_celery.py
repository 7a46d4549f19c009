"""Tasks whose calls are rejected: they wait without spending a retry, in every pool, and give up in time."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from billiard.exceptions import SoftTimeLimitExceeded
from celery import Celery
from celery.exceptions import Ignore, Retry

from cb import BreakerConfig, BulkheadFullError, CircuitBreaker, CircuitOpenError, ConfigError, Ledger, RejectedError
from cb.integrations.celery import BreakerTask
from cb.testing import FakeClock
from tests.support import ROOT
from tests.support.redis_servers import BINARIES
from tests.support.redis_servers import Server as Redis
from tests.support.waiting import until

TASKS = """
import os, time
from celery import Celery, chord, group
from cb import BreakerConfig, Registry
from cb.integrations.celery import BreakerTask

app = Celery("tasks", broker=os.environ["BROKER"], backend=os.environ["BROKER"], task_cls=BreakerTask)
app.conf.update(broker_connection_retry_on_startup=True, worker_prefetch_multiplier=1, task_track_started=True)
registry = Registry(shared=True, defaults=BreakerConfig(failure_threshold=2, timeout=2, slow_call_duration=0.5))
breaker = registry.get("mail")
hung = registry.get("hung")


class Unavailable(OSError):
    pass


def send(value):
    if os.path.exists("down"):
        raise Unavailable("out of order")
    return value


@app.task(bind=True, max_retries=0, retry_spread=0.5)
def mail(self, value):
    return [self.request.retries, breaker.call(send, value), os.getpid()]


@app.task(bind=True, autoretry_for=(Exception,), max_retries=0, retry_spread=0.5, acks_late=True)
def eager_to_retry(self, value):
    return [self.request.retries, breaker.call(send, value), os.getpid()]


@app.task(retry_spread=0, give_up_after=0.3)
def impatient():
    return breaker.call(send, 1)


@app.task(guard=registry.get("guarded"), retry_spread=0.5)
def guarded():
    return send(1)


@app.task
def total(found):
    return sum(value for _, value, _ in found)


@app.task(soft_time_limit=0.1)
def soft_early():
    hung.call(time.sleep, 5)


@app.task(soft_time_limit=1)
def soft_late():
    hung.call(time.sleep, 5)


@app.task(time_limit=1)
def hard():
    hung.call(time.sleep, 5)
"""


class Project:
    """The tasks above, with a broker."""

    def __init__(self, home: Path, broker: Redis) -> None:
        self.home = home
        (home / "tasks.py").write_text(TASKS)
        path = f"{home}{os.pathsep}{ROOT}"
        ours = {
            "BROKER": broker.url,
            "CB_LEDGER": f"file://{home}/ledger",
            "PYTHONPATH": path,
            "PYTHONWARNINGS": "ignore",
        }
        self.environ = os.environ | ours

    @contextmanager
    def worker(self, *options: str) -> Iterator[Path]:
        """Run a worker until the end of the block. Yield the file of its log."""
        log = self.home / "log"
        command = [sys.executable, "-m", "celery", "--app", "tasks", "worker", "--loglevel=INFO", *options]
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*command, "--without-mingle", "--without-gossip", "--without-heartbeat"],
                cwd=self.home,
                env=self.environ,
                stdout=output,
                stderr=output,
            )
        try:
            until(lambda: " ready." in log.read_text())
            yield log
        finally:
            process.terminate()
            process.wait(20)
            sys.stderr.write(log.read_text())  # printed if the test fails

    def start(self, program: str) -> subprocess.Popen[str]:
        """Start a client that prints a line of JSON."""
        text = f"import json, tasks\nfrom tasks import *\nprint(json.dumps({program}))"
        return subprocess.Popen(
            [sys.executable, "-c", text], cwd=self.home, env=self.environ, stdout=subprocess.PIPE, text=True
        )

    def run(self, program: str) -> Any:
        return read(self.start(program))

    def breaker(self, name: str) -> CircuitBreaker:
        return CircuitBreaker(name, BreakerConfig(), ledger=Ledger.in_file(self.home / "ledger"))

    def break_down(self) -> None:
        (self.home / "down").touch()

    def repair(self) -> None:
        (self.home / "down").unlink()


def read(client: subprocess.Popen[str]) -> Any:
    """Return the JSON that a client has printed."""
    output, _ = client.communicate(timeout=60)
    return json.loads(output)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    with Redis(BINARIES["valkey"], tmp_path_factory.mktemp("redis")) as found:
        yield found


@pytest.fixture
def project(tmp_path: Path, broker: Redis) -> Project:
    broker.client.flushall()
    return Project(tmp_path, broker)


NIGHTLY = pytest.mark.nightly
POOLS = {
    "prefork": ["--concurrency=4"],
    "threads": ["--pool=threads", "--concurrency=4"],
    "gevent": ["--pool=gevent", "--concurrency=4"],
}
OUTAGE = """(
    lambda sent, header: [[each.get(timeout=50) for each in sent], header.get(timeout=50)]
)(
    [each.delay(1) for each in (mail, eager_to_retry) * 6],
    chord([mail.s(value) for value in range(4)])(total.s()),
)"""


@pytest.mark.quiet
@pytest.mark.parametrize(
    "pool", ["prefork", *(pytest.param(each, marks=pytest.mark.nightly) for each in ("threads", "gevent"))]
)
def test_tasks_and_chords_wait_for_an_open_circuit_without_spending_a_retry(pool: str, project: Project) -> None:
    breaker = project.breaker("mail")
    with project.worker(*POOLS[pool]) as log:
        breaker.control.force_open(reason="a test", duration=2)
        client = project.start(OUTAGE)
        until(lambda: log.read_text().count("retry: Retry in") >= 16)
        found, summed = read(client)
    assert [retries for retries, _, _ in found] == [0] * 12
    assert summed == 6
    assert breaker.snapshot().totals.failures == 0
    assert len({pid for _, _, pid in found}) >= (2 if pool == "prefork" else 1)


@pytest.mark.quiet
def test_children_share_the_circuit_and_limits_are_outcomes(project: Project) -> None:
    hung, mail = project.breaker("hung"), project.breaker("mail")
    project.break_down()
    ended = "[type(each.get(timeout=30, propagate=False)).__name__ for each in [%s]]"
    with project.worker("--concurrency=3"):
        sent = "mail.delay(1), mail.delay(1), soft_early.delay(), soft_late.delay(), hard.delay(), guarded.delay()"
        found = project.run(ended % sent)
        assert found == ["Unavailable"] * 2 + ["SoftTimeLimitExceeded"] * 2 + ["TimeLimitExceeded", "Unavailable"]
        mail.control.force_open(reason="a test")
        assert project.run(ended % "impatient.delay()") == ["CircuitOpenError"]
    assert mail.snapshot().totals.failures == 2
    until(lambda: hung.snapshot().totals.failures == 2)  # the late soft limit, and the killed child
    assert (hung.snapshot().totals.neutral, hung.snapshot().totals.successes) == (1, 0)
    assert project.breaker("guarded").snapshot().totals.failures == 1


@pytest.fixture
def app() -> Celery:
    return Celery("tests", broker="memory://", task_cls=BreakerTask, set_as_current=False)


@pytest.fixture
def breaker() -> CircuitBreaker:
    return CircuitBreaker("mail", BreakerConfig(failure_threshold=2))


class Rejecting:
    """A task that is rejected, in a request as a worker makes it."""

    def __init__(self, app: Celery, **options: Any) -> None:
        self.error: Exception = CircuitOpenError("mail", 20.0)

        def run(_: Any) -> None:
            raise self.error

        self.task = app.task(bind=True, shared=False, name="rejecting", **options)(run)
        self.sent: list[dict[str, Any]] = []
        self.task.apply_async = lambda *args, **given: self.sent.append({"args": args, **given})

    def __call__(self, **request: Any) -> Retry:
        """Return the Retry of one run."""
        self.task.push_request(id="1", called_directly=False, args=(), kwargs={}, delivery_info={}, **request)
        try:
            with pytest.raises(Retry) as caught:
                self.task()
        finally:
            self.task.pop_request()
        return caught.value


def test_task_called_as_a_function_raises_at_once(app: Celery) -> None:
    with pytest.raises(CircuitOpenError):
        Rejecting(app).task()


def test_eager_task_raises_at_once(app: Celery) -> None:
    result = Rejecting(app).task.apply()
    assert (result.state, result.result.name) == ("FAILURE", "mail")


@pytest.mark.parametrize(
    ("error", "least"),
    [
        (CircuitOpenError("mail", 20.0), 20),
        (CircuitOpenError("mail", None), 60),
        (CircuitOpenError("mail", 100_000.0), 300),
        (BulkheadFullError("mail", 3), 1),
        (RejectedError("mail", 0.0), 0),
    ],
)
def test_task_comes_back_after_retry_after_and_at_a_moment_of_its_own(
    app: Celery, error: Exception, least: float
) -> None:
    task = Rejecting(app, retry_spread=timedelta(seconds=7))
    task.error = error
    waits = [float(task(retries=2).when) for _ in range(50)]
    assert all(least <= wait <= least + 7 for wait in waits)
    assert max(waits) - min(waits) > 1
    assert len({*waits}) == 50


def test_retries_stay_as_they_are_also_beyond_max_retries(app: Celery) -> None:
    task = Rejecting(app, max_retries=0)
    assert task(retries=0).sig.options["retries"] == 0
    assert task(retries=3).sig.options["retries"] == 3


def test_first_rejection_is_in_the_headers_and_bounds_the_time(app: Celery) -> None:
    task = Rejecting(app, give_up_after=1000)
    since = task().sig.options["headers"]["cb_rejected_since"]
    assert task(cb_rejected_since=since - 5).sig.options["headers"]["cb_rejected_since"] == since - 5
    assert float(task(cb_rejected_since=since - 995).when) <= 5
    task.task.push_request(called_directly=False, args=(), kwargs={}, cb_rejected_since=since - 1001)
    with pytest.raises(CircuitOpenError):
        task.task()
    task.task.pop_request()


def test_retry_of_the_task_itself_spends_none_after_a_rejection_and_one_after_another_error(app: Celery) -> None:
    error: list[Exception] = [CircuitOpenError("mail", 20.0)]

    @app.task(bind=True, shared=False, name="own", max_retries=3)
    def own(self: Any) -> None:
        try:
            raise error[0]
        except (CircuitOpenError, OSError):
            self.retry(countdown=40)

    own.apply_async = lambda *_, **__: None
    for raised, retries in ((error[0], 1), (OSError(), 2)):
        error[0] = raised
        own.push_request(called_directly=False, args=(), kwargs={}, delivery_info={}, retries=1)
        with pytest.raises(Retry) as caught:
            own()
        own.pop_request()
        assert caught.value.sig.options["retries"] == retries
        assert float(caught.value.when) >= 40


@pytest.mark.parametrize(
    ("option", "value"),
    [("give_up_after", -1), ("give_up_after", "1h"), ("retry_spread", None), ("retry_spread", -0.1), ("guard", 3)],
)
def test_wrong_option_is_an_error_that_names_it(app: Celery, option: str, value: Any) -> None:
    def run() -> int:
        return 7

    task = app.task(name="wrong", shared=False, **{option: value})(run)
    with pytest.raises(ConfigError) as caught:
        app.finalize()
        task()
    assert caught.value.field == option


@pytest.mark.parametrize(
    ("raised", "counted"),
    [
        (OSError(), (0, 1, 0)),
        (Ignore(), (0, 0, 1)),
        (Retry(exc=OSError()), (0, 1, 0)),
        (Retry(), (0, 0, 1)),
        (None, (1, 0, 0)),
    ],
)
def test_guard_counts_the_outcome_of_the_task(
    app: Celery, breaker: CircuitBreaker, raised: Exception | None, counted: tuple[int, int, int]
) -> None:
    def work() -> int:
        if raised:
            raise raised
        return 7

    task = app.task(name="work", shared=False, guard=breaker)(work)
    if raised:
        with pytest.raises(type(raised)):
            task()
    else:
        assert task() == 7
    totals = breaker.snapshot().totals
    assert (totals.successes, totals.failures, totals.neutral) == counted


@pytest.mark.parametrize(("seconds", "counted"), [(1, (0, 1)), (3, (1, 0))])
def test_soft_time_limit_is_an_interruption(seconds: int, counted: tuple[int, int]) -> None:
    clock = FakeClock()
    breaker = CircuitBreaker("mail", BreakerConfig(slow_call_duration=2), clock=clock)

    def hang() -> None:
        clock.advance(seconds)
        raise SoftTimeLimitExceeded

    with pytest.raises(SoftTimeLimitExceeded):
        breaker.call(hang)
    totals = breaker.snapshot().totals
    assert (totals.failures, totals.neutral) == counted
