"""The project of docs/integrations/django.md under four workers: its dependencies fail and return."""

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from tests.docs.pages import Reader, blocks
from tests.support import ROOT
from tests.support.databases import PostgreSQL
from tests.support.misbehaving import Server, answer
from tests.support.redis_servers import free_port
from tests.support.waiting import until

PAGE = ROOT / "docs/integrations/django.md"
WORKERS = 4

pytestmark = pytest.mark.quiet


def ask(url: str) -> list[requests.Response]:
    """Return the responses to some requests at once."""
    with ThreadPoolExecutor(8) as pool:
        return list(
            pool.map(lambda _: requests.get(url, headers={"Connection": "close"}, timeout=20), range(4 * WORKERS))
        )


def served(url: str) -> set[int]:
    """Return the workers once all have served a request, and the last ones were all good."""
    workers: set[int] = set()

    def all_serve() -> bool:
        found = ask(url)
        workers.update(each.json()["worker"] for each in found if each.ok)
        return len(workers) == WORKERS and all(each.ok for each in found)

    until(all_serve)
    return workers


def refused(url: str) -> None:
    """Wait until all workers refuse: that many requests in a row come from all of them."""

    def all_refuse() -> bool:
        found = [each for _ in range(3) for each in ask(url)]
        assert {each.headers.get("Retry-After", "1").isdecimal() for each in found} == {True}
        return {(each.status_code, each.headers.get("Retry-After") is None) for each in found} == {(503, False)}

    until(all_refuse, seconds=40)


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def site(server: Server, postgresql: PostgreSQL, port: int, tmp_path: Path) -> Iterator[str]:
    """Yield the address of the project of the page."""
    server.act = answer(200, "150.10")
    theirs = {"https://api.example.com": server.url, "5432": str(postgresql.port), '"10s"': '"0.5s"', "8000": str(port)}
    reader = Reader(tmp_path, {**theirs, "gunicorn ": "gunicorn --no-control-socket "})
    try:
        for block in blocks(PAGE):
            if block.title or block.language == "bash":
                reader.follow(block)
        yield f"http://127.0.0.1:{port}"
    finally:
        reader.close()


def test_all_workers_refuse_while_a_dependency_is_down_and_serve_when_it_is_back(
    site: str, server: Server, postgresql: PostgreSQL, tmp_path: Path
) -> None:
    outages: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "/orders": (postgresql.kill, postgresql.start),
        "/price": (
            lambda: setattr(server, "act", answer(500, "out of order")),
            lambda: setattr(server, "act", answer(200, "150.10")),
        ),
    }
    for path, (stop, restore) in outages.items():
        before = served(site + path)
        stop()
        refused(site + path)
        restore()
        assert served(site + path) == before
    shown = requests.get(f"{site}/circuit-breakers/status", timeout=5).json()
    assert {*shown["breakers"]} == {"database-default", "vendor"}
    assert re.findall(r"circuit (\S+): CLOSED -> OPEN", (tmp_path / "error.log").read_text()) == [*shown["breakers"]]
