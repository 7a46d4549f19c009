"""The pages of Redis and SQLAlchemy: their programs, and their apps under workers whose server is killed."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from tests.docs.pages import Block, Reader, blocks
from tests.support import ROOT
from tests.support.databases import PostgreSQL
from tests.support.redis_servers import BINARIES, Server, free_port
from tests.support.waiting import until

WORKERS = 3
PAGES = {name: blocks(ROOT / "docs" / name) for name in ("integrations/redis.md", "integrations/sqlalchemy.md")}
REDIS, SQLALCHEMY = PAGES.values()

pytestmark = pytest.mark.quiet


@pytest.fixture
def ports() -> dict[str, str]:
    """Return our ports by those of the pages, and shorter times."""
    return {"8000": str(free_port()), "8001": str(free_port()), '"5s"': '"1s"', "5, timeout=5": "5, timeout=1"}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Server]:
    with Server(BINARIES["valkey"], tmp_path / "redis") as server:
        yield server


def apps(page: list[Block]) -> list[list[Block]]:
    """Return the file of each app of a page, with the commands that start it and ask it."""
    return [page[number : number + 2] for number, block in enumerate(page) if block.title]


def ask(url: str) -> list[tuple[int, int]]:
    """Return the status and the worker of some requests at once; the worker is 0 in an error without one."""

    def one(_: int) -> tuple[int, int]:
        found = requests.get(url, headers={"Connection": "close"}, timeout=20)
        assert found.status_code != 503 or int(found.headers["Retry-After"]) in range(1, 61)
        return found.status_code, found.json()["worker"] if found.ok else 0

    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(one, range(16)))


def served(url: str) -> set[int]:
    """Return the workers once all have served a request, and the last ones were all good."""
    workers: set[int] = set()

    def all_serve() -> bool:
        found = ask(url)
        workers.update(worker for status, worker in found if status == 200)
        return len(workers) == WORKERS and {status for status, _ in found} == {200}

    until(all_serve)
    return workers


def follow_app(app: list[Block], reader: Reader, ports: dict[str, str], server: Server | PostgreSQL) -> None:
    """Start an app, kill its server until all workers refuse, and start it again."""
    for block in app:
        reader.follow(block)
    [address] = re.findall(r"http://127.0.0.1:800\d/\w+", app[1].text)
    for theirs, ours in ports.items():
        address = address.replace(theirs, ours)
    before = served(address)
    server.kill()
    # With three workers, 48 requests in a row that are refused come from all of them.
    until(lambda: {status for _ in range(3) for status, _ in ask(address)} == {503}, seconds=40)
    server.start()
    assert served(address) == before


def program_of(page: list[Block]) -> Block:
    [program] = [block for block in page if block.language == "python" and not block.title]
    return program


def test_program_of_the_redis_page_prints_what_it_says(store: Server, tmp_path: Path) -> None:
    assert Reader(tmp_path, {"redis://127.0.0.1:6379/0": store.url}).follow(program_of(REDIS))


def test_program_of_the_sqlalchemy_page_prints_what_it_says(tmp_path: Path) -> None:
    assert Reader(tmp_path, {}).follow(program_of(SQLALCHEMY))


@pytest.mark.parametrize("app", apps(REDIS), ids=lambda app: app[0].title)
def test_all_workers_refuse_while_redis_is_down_and_serve_when_it_is_back(
    app: list[Block], store: Server, ports: dict[str, str], tmp_path: Path
) -> None:
    reader = Reader(tmp_path, {**ports, "redis://127.0.0.1:6379/0": store.url})
    try:
        follow_app(app, reader, ports, store)
    finally:
        reader.close()


@pytest.mark.parametrize("app", apps(SQLALCHEMY), ids=lambda app: app[0].title)
def test_all_workers_refuse_while_the_database_is_down_and_serve_when_it_is_back(
    app: list[Block], postgresql: PostgreSQL, ports: dict[str, str], tmp_path: Path
) -> None:
    reader = Reader(tmp_path, {**ports, "127.0.0.1:5432": f"127.0.0.1:{postgresql.port}"})
    try:
        follow_app(app, reader, ports, postgresql)
    finally:
        reader.close()
