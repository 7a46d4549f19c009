"""The pages of httpx and aiohttp: their programs, and their app under four real workers."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from tests.docs.pages import Reader, blocks
from tests.support import ROOT
from tests.support.misbehaving import Server, answer
from tests.support.redis_servers import free_port
from tests.support.waiting import until

PAGES = ("integrations/httpx.md", "integrations/aiohttp.md")
WORKERS = 4

pytestmark = pytest.mark.quiet


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def theirs(server: Server, port: int) -> dict[str, str]:
    """Return our addresses by those of the pages, and a short open time."""
    server.act = answer(200, "150.10")
    addresses = {"https://api.example.com:443": server.url, "https://api.example.com": server.url}
    return {**addresses, "port 8000": f"port {port}", ":8000": f":{port}", "timeout=10)": "timeout=0.5)"}


@pytest.fixture
def reader(theirs: dict[str, str], tmp_path: Path) -> Iterator[Reader]:
    reader = Reader(tmp_path, theirs)
    yield reader
    reader.close()


def asked(port: int) -> list[tuple[int, int]]:
    """Return the status and the worker of some requests at once."""

    def ask(_: int) -> tuple[int, int]:
        found = requests.get(f"http://127.0.0.1:{port}/price", headers={"Connection": "close"}, timeout=10)
        assert found.status_code == 200 or int(found.headers["Retry-After"]) in range(1, 61)
        return found.status_code, found.json()["worker"]

    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(ask, range(16)))


PROGRAMS = [
    (page, block.text)
    for page in PAGES
    for block in blocks(ROOT / "docs" / page)
    if block.language == "python" and not block.title
]


@pytest.mark.parametrize(("page", "program"), PROGRAMS, ids=range(len(PROGRAMS)))
def test_program_prints_the_values_in_its_comments(
    theirs: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *,
    page: str,
    program: str,
) -> None:
    monkeypatch.setenv("CB_LEDGER", f"file://{tmp_path}/ledger")
    for their, our in theirs.items():
        program = program.replace(their, our)
    exec(compile(program, page, "exec"), {"__name__": "program"})
    assert capsys.readouterr().out.splitlines() == re.findall(r"^ *print\(.*\)  # (.*)$", program, re.MULTILINE)


@pytest.mark.parametrize("page", PAGES)
def test_circuit_opens_and_closes_in_all_workers_of_an_app(
    page: str, reader: Reader, server: Server, port: int
) -> None:
    for block in blocks(ROOT / "docs" / page):
        if block.language == "bash" or block.title:
            reader.follow(block)
    served: set[int] = set()
    refused: set[int] = set()

    def all_have_refused() -> bool:
        refused.update(worker for status, worker in asked(port) if status == 503)
        return len(refused) == WORKERS

    def all_serve_again() -> bool:
        served.update(worker for status, worker in asked(port) if status == 200)
        return len(served) == WORKERS

    server.act = answer(500, "out of order")
    until(all_have_refused)
    server.act = answer(200, "150.10")
    until(all_serve_again)
    assert served == refused
