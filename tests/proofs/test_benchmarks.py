"""The setups of the compared libraries, and the documentation of the last benchmark run."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from benchmarks import report
from benchmarks.async_peers import ASYNC_LIBRARIES
from benchmarks.asynchronous import asynchronous
from benchmarks.chart import draw
from benchmarks.end_to_end import GATEWAYS, ORDER, READ
from benchmarks.killed import after_killed_probe, after_killed_requests
from benchmarks.leak import reached_by_requests
from benchmarks.load import ORDERS, platform, wrk
from benchmarks.peers import LIBRARIES, LOCAL, OURS, WITH_REDIS, Library, Setting
from benchmarks.uvicorn_workers import NAMES
from cb.testing import workers
from tests.support import ROOT
from tests.support.redis_servers import BINARIES, Server
from tests.support.waiting import until

KEPT = json.loads((ROOT / report.KEPT).read_text())
FAILURES = 3


class _Dependency:
    """A dependency that fails until `well` is set, and counts its calls."""

    def __init__(self) -> None:
        self.calls, self.well = 0, False

    def __call__(self) -> str:
        self.calls += 1
        if not self.well:
            raise ConnectionError
        return "well"


def follows(library: Library, setting: Setting) -> None:
    dependency = _Dependency()

    def work() -> object:
        return dependency()

    call = library.guard(work, setting)
    for _ in range(FAILURES):
        with pytest.raises(ConnectionError):
            call()
    with pytest.raises(library.rejection):
        call()
    assert dependency.calls == FAILURES

    dependency.well = True
    # With Redis, other processes follow a moment later.
    until(lambda: all(answers(call, library) for _ in range(5)), seconds=5)


def answers(call: Callable[[], object], library: Library) -> bool:
    try:
        return call() == "well"
    except library.rejection:
        return False


@pytest.mark.parametrize("library", LOCAL, ids=lambda library: library.name)
def test_library_opens_after_consecutive_failures_rejects_and_closes_after_a_probe(
    library: Library, tmp_path: Path
) -> None:
    follows(library, Setting(tmp_path, failures=FAILURES, timeout=0.3))


def follow(name: str, setting: Setting) -> None:
    follows(LIBRARIES[name], setting)


@pytest.mark.parametrize("name", [library.name for library in WITH_REDIS])
def test_library_with_redis_opens_rejects_and_closes_likewise(name: str, tmp_path: Path) -> None:
    # In a process of its own: not all libraries can be closed.
    with Server(BINARIES["valkey"], tmp_path / "server") as server, workers(1) as (process,):
        process.call(follow, name, Setting(tmp_path, url=server.url, failures=FAILURES, timeout=1))


@pytest.mark.parametrize("name", ASYNC_LIBRARIES)
def test_library_of_coroutines_opens_after_consecutive_failures_rejects_and_closes(name: str, tmp_path: Path) -> None:
    library, dependency = ASYNC_LIBRARIES[name], _Dependency()

    async def work() -> object:
        return dependency()

    guarded = library.breaker(Setting(tmp_path, failures=FAILURES, timeout=0.3))(work)

    def call() -> object:
        async def awaited() -> object:
            return await guarded()

        return asyncio.run(awaited())

    for _ in range(FAILURES):
        with pytest.raises((ConnectionError, library.rejection)):  # one raises its own for the call that opens
            call()
    with pytest.raises(library.rejection):
        call()
    assert dependency.calls == FAILURES

    dependency.well = True

    def answers() -> bool:
        try:
            return call() == "well"
        except library.rejection:
            return False

    until(answers, seconds=5)


@pytest.mark.quiet
def test_requests_to_two_workers_of_uvicorn_reach_a_dead_dependency_as_often_as_configured() -> None:
    assert reached_by_requests(OURS, 2) in (10, 11)


@pytest.mark.nightly
@pytest.mark.parametrize("name", NAMES)
def test_killed_workers_of_uvicorn_are_noticed_by_ours_alone(name: str) -> None:
    assert reached_by_requests(name, 2) >= (10 if name == OURS else 20)
    assert after_killed_requests(name) == ("rejected" if name == OURS else "answered")
    assert after_killed_probe(name) < 5


def test_coroutines_of_all_libraries_are_measured_in_one_loop() -> None:
    rows = asynchronous(1).rows
    assert {"cb", "circuitbreaker", "aiobreaker", "interlock", "nopanic", "purgatory", "no breaker"} <= set(rows)
    assert all(isinstance(cost, float) and cost > 0 for cost, _ in rows.values())


def test_documentation_shows_the_figures_of_the_last_run() -> None:
    assert not KEPT["quick"]
    assert (ROOT / report.PAGE).read_text() == report.page(KEPT)
    assert (ROOT / report.PICTURE).read_text() == draw(KEPT)
    readme = (ROOT / report.README).read_text()
    assert report.put(readme, report.section(KEPT)) == readme


def test_last_run_used_the_pinned_versions() -> None:
    lock = (ROOT / "requirements-dev.lock").read_text()
    versions = {name: KEPT["environment"]["versions"][name] for name in {each.package for each in LIBRARIES.values()}}
    del versions["distributed-circuit-breaker"]
    assert not [name for name, version in versions.items() if f"\n{name}=={version} " not in lock]


def test_picture_is_well_formed_and_has_a_text_alternative() -> None:
    root = ET.fromstring(draw(KEPT))
    assert root.attrib["aria-label"].startswith("Of 8 workers, ")
    assert len([*root.iter("{http://www.w3.org/2000/svg}rect")]) > 20


@pytest.mark.nightly
def test_gateways_that_the_breakers_of_ours_are_compared_with_answer_reads_and_orders(tmp_path: Path) -> None:
    (tmp_path / "orders.lua").write_text(ORDERS)
    with platform(tmp_path, GATEWAYS) as gateways:
        for path, script in ((READ[1], None), (ORDER[1], tmp_path / "orders.lua")):
            for served in gateways.values():
                found = wrk(served.url + path, 1, script)
                assert found.per_second > 10 and not found.bad
