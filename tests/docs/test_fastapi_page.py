"""docs/integrations/fastapi.md: its apps under the servers that it names."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from tests.docs.pages import Block, Reader, blocks
from tests.support import ROOT
from tests.support.misbehaving import Server, answer
from tests.support.redis_servers import free_port
from tests.support.waiting import until

PAGE = blocks(ROOT / "docs/integrations/fastapi.md")
WORKERS = 4

pytestmark = pytest.mark.quiet


@pytest.fixture
def ports() -> dict[str, str]:
    """Return free ports by those of the page."""
    return {str(port): str(free_port()) for port in range(8000, 8004)}


@pytest.fixture
def reader(server: Server, ports: dict[str, str], tmp_path: Path) -> Iterator[Reader]:
    """Yield a reader with a vendor that is well, and a short open time."""
    server.act = answer(200, "150.10")
    ours = {f"{before}{port}": f"{before}{free}" for port, free in ports.items() for before in ("port ", ":")}
    reader = Reader(tmp_path, {"https://api.example.com": server.url, "timeout=10)": "timeout=1)", **ours})
    yield reader
    reader.close()


def followed(reader: Reader, *files: str) -> list[str]:
    """Follow the blocks of these files, and the commands behind them. Return what the commands print."""
    printed, wanted = [], False
    for block in PAGE:
        wanted = block.title in files if block.title else wanted
        if wanted and block.language != "text":
            printed.append(reader.follow(block))
    return printed


def asked(url: str) -> list[requests.Response]:
    """Return the responses to some requests at once."""
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(lambda _: requests.get(url, headers={"Connection": "close"}, timeout=10), range(16)))


def workers_that_answer(url: str, status: int) -> dict[str, requests.Response]:
    """Send requests until all workers have answered with that status. Return a response of each."""
    found: dict[str, requests.Response] = {}

    def all_have() -> bool:
        found.update({each.headers["X-Worker"]: each for each in asked(url) if each.status_code == status})
        return len(found) == WORKERS

    until(all_have, f"{status} from all workers")
    return found


def test_circuit_opens_and_closes_in_all_workers_of_the_app(
    reader: Reader, server: Server, ports: dict[str, str]
) -> None:
    *_, forced = followed(reader, "shop.py")
    assert '"to": "FORCED_OPEN"' in forced
    url = f"http://127.0.0.1:{ports['8000']}/price"
    served = workers_that_answer(url, 200)
    server.act = answer(500, "out of order")
    refused = workers_that_answer(url, 503)
    server.act = answer(200, "150.10")
    assert refused.keys() == served.keys() == workers_that_answer(url, 200).keys()

    [shown] = [block.text for block in PAGE if block.language == "text"]
    for each in refused.values():
        assert int(each.headers["Retry-After"]) in range(1, 61)
        assert shown.splitlines()[-1].removesuffix(", ...}") in each.text


def test_app_with_a_dependency_answers(reader: Reader) -> None:
    assert followed(reader, "with_dependencies.py")[-1] == '"150.10"'


def test_operations_are_mounted_in_a_starlette_app(reader: Reader) -> None:
    shown = followed(reader, "mounted.py")[-1]
    assert '"vendor": {"state": "CLOSED"' in shown
    assert 'circuit_breaker_state{name="vendor",state="CLOSED"} 1.0' in shown


def test_plain_app_is_served_by_gunicorn(reader: Reader, ports: dict[str, str]) -> None:
    assert followed(reader, "plain.py")[-1] == "150.10"
    reader.follow(Block("bash", None, "cb force-open vendor --reason drill"))
    assert {each.status_code for each in asked(f"http://127.0.0.1:{ports['8003']}/price")} == {503}


def test_commands_name_the_servers_that_the_page_promises() -> None:
    commands = "\n".join(block.text for block in PAGE if block.language == "bash")
    assert re.findall(r"^(uvicorn --workers 4|gunicorn) ", commands, re.MULTILINE) == [
        "uvicorn --workers 4",
        "gunicorn",
    ]
