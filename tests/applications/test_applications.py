"""Five applications as users write them: their dependency breaks, all workers open together, it returns, all close."""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.applications.guarded import (
    HOME,
    MOST_CALLS,
    WORKERS,
    Children,
    Report,
    environ_of,
    follow,
    guard_lines,
    gunicorn,
    started,
    write_table,
)
from tests.support.databases import PostgreSQL
from tests.support.misbehaving import Server, answer
from tests.support.redis_servers import BINARIES
from tests.support.redis_servers import Server as Redis
from tests.support.versions import allowed, environment, installed
from tests.support.waiting import until

pytestmark = [pytest.mark.nightly, pytest.mark.quiet]


@pytest.fixture(scope="module")
def reports() -> Iterator[list[Report]]:
    """Yield the reports of this run. They become the table of the page if $CB_WRITE is set."""
    found: list[Report] = []
    yield found
    if "CB_WRITE" in os.environ:
        write_table(found)


def breaks(server: Server) -> Callable[[], None]:
    return lambda: setattr(server, "act", answer(500, "out of order"))


def works(server: Server) -> Callable[[], None]:
    return lambda: setattr(server, "act", answer(200, "well"))


def check(report: Report, name: str) -> None:
    assert 0 < report.calls <= MOST_CALLS
    assert report.lines <= 30
    opened = [line for line in report.log if f"circuit {name}: " in line and "OPEN" in line]
    assert len(opened) >= 1, report.log


WEB = {
    "weather": ("weather.wsgi", "forecast", ()),
    "feeds": ("feeds:app", "feed", ("--worker-class", "gevent")),
}


@pytest.mark.parametrize("name", WEB)
def test_web_application_opens_in_all_workers_and_closes(
    name: str, server: Server, tmp_path: Path, reports: list[Report]
) -> None:
    target, breaker, options = WEB[name]
    works(server)()
    with gunicorn(name, target, tmp_path, {"VENDOR_URL": server.url}, "--no-control-socket", *options) as workers:
        report = follow(workers, Report(name, guard_lines(name)), breaks(server), works(server))
    reports.append(report)
    check(report, breaker)


def test_blog_with_its_pins_of_2023_opens_in_all_workers_and_closes(
    server: Server, tmp_path: Path, reports: list[Report]
) -> None:
    extras = [str(each) for extra in ("flask", "http", "redis", "sqlalchemy") for each in allowed()[extra]]
    python = environment(["--requirement", str(HOME / "microblog/requirements.txt"), *extras], tmp_path / "venv")
    assert installed(python, ["Flask", "urllib3"]) == {"Flask": "3.0.0", "urllib3": "2.1.0"}
    works(server)()
    with gunicorn("microblog", "microblog:app", tmp_path, {"VENDOR_URL": server.url}, python=str(python)) as workers:
        report = follow(workers, Report("microblog", guard_lines("microblog")), breaks(server), works(server))
    reports.append(report)
    check(report, "translator")


def test_orders_open_in_all_workers_while_postgresql_is_stopped(
    postgresql: PostgreSQL, tmp_path: Path, reports: list[Report]
) -> None:
    with gunicorn("orders", "orders:app", tmp_path, {"DATABASE_URL": postgresql.url}, "--no-control-socket") as workers:
        report = follow(workers, Report("orders", guard_lines("orders")), postgresql.kill, postgresql.start)
    reports.append(report)
    check(report, "database")


def test_tasks_of_celery_open_in_all_children_and_close(server: Server, tmp_path: Path, reports: list[Report]) -> None:
    works(server)()
    with Redis(BINARIES["valkey"], tmp_path / "redis") as broker:
        environ = {"BROKER_URL": broker.url, "VENDOR_URL": server.url}
        command = [sys.executable, "-m", "celery", "-A", "mailer", "worker"]
        command += [f"--concurrency={WORKERS}", "--loglevel=INFO"]
        with started(command, "mailer", tmp_path, environ) as log:
            until(lambda: " ready." in log.read_text())
            with Children(log, environ_of("mailer", tmp_path, environ)) as children:
                report = follow(children, Report("mailer", guard_lines("mailer")), breaks(server), works(server))
    reports.append(report)
    check(report, "mail")
