"""The sections of docs/integrations.md, each served by two real workers."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.docs.pages import Block, Reader, read_blocks
from tests.support import ROOT
from tests.support.misbehaving import Server, answer
from tests.support.redis_servers import free_port
from tests.support.waiting import until

SECTIONS = dict(re.findall(r"^## (.*)\n((?:(?!^## ).*\n)*)", (ROOT / "docs/integrations.md").read_text(), re.MULTILINE))
SERVED = [name for name, text in SECTIONS.items() if "--workers 2" in text]


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def reader(server: Server, port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Reader]:
    """Yield a reader with a vendor that fails, and with workers that log each response."""
    server.act = answer(500, "out of order")
    log = f"--access-logfile {tmp_path}/log --access-logformat '%(p)s %(s)s' --no-control-socket"
    monkeypatch.setenv("GUNICORN_CMD_ARGS", log)
    reader = Reader(tmp_path, {"https://api.example.com": server.url, ":8000": f":{port}"})
    yield reader
    reader.close()


def test_each_way_to_serve_an_app_has_a_section() -> None:
    assert SERVED == ["Flask", "Django", "Plain WSGI"]


def test_two_lines_and_the_one_of_gunicorn_are_all_it_takes(reader: Reader, server: Server) -> None:
    server.act = answer(200, "150.10")
    [app] = [block for block in read_blocks(SECTIONS["Flask"]) if block.title == "app.py"]
    reader.follow(app)
    ask = "from app import app\nprint(app.test_client().get('/price').text)  # 150.10\n"
    reader.follow(Block("python", None, ask))
    for block in read_blocks(SECTIONS["gunicorn"]):
        reader.follow(block)


@pytest.mark.parametrize("name", SERVED)
def test_circuit_that_opens_in_one_worker_is_refused_by_the_other(
    name: str, reader: Reader, server: Server, port: int, tmp_path: Path
) -> None:
    for block in read_blocks(SECTIONS[name]):
        reader.follow(block)
    refusals: list[requests.Response] = []

    def both_have_refused() -> bool:
        found = requests.get(f"http://127.0.0.1:{port}/price", headers={"Connection": "close"}, timeout=5)
        if found.status_code == 503:
            refusals.append(found)
        return len(set(re.findall(r"<(\d+)> 503", (tmp_path / "log").read_text()))) == 2

    until(both_have_refused)
    assert len(server.requests) == 5
    assert {int(refused.headers["Retry-After"]) in range(1, 61) for refused in refusals} == {True}
