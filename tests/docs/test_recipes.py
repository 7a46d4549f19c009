"""The recipes of docs/recipes.md, with a dependency that works and one that fails."""

import re
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

from cb import CircuitOpenError
from tests.support import ROOT
from tests.support.misbehaving import Server, answer, reset, stay_silent

BLOCKS = re.findall(
    r"^## \d\. (.*?)$.*?^```python\n(.*?)^```$", (ROOT / "docs/recipes.md").read_text(), re.MULTILINE | re.DOTALL
)
RECIPES = dict(BLOCKS)
HOSTS = (
    "https://api.example.com",
    "http://stock.internal:8080",
    "https://partner.example.com",
    "http://127.0.0.1:8082",
)
DOWN = answer(503, "{}")


@pytest.fixture
def follow(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], dict[str, Any]]:
    """Return a function that executes a recipe against our server, and returns its names."""
    monkeypatch.chdir(tmp_path)

    def run(title: str) -> dict[str, Any]:
        text = RECIPES[title].replace("/var/run/app", str(tmp_path))
        text = text.replace("shm://app", f"file://{tmp_path}/app.ledger").replace("max_age=1", "max_age=0")
        for host in HOSTS:
            text = text.replace(host, server.url)
        names: dict[str, Any] = {}
        exec(compile(text, "docs/recipes.md", "exec"), names)
        return names

    return run


def test_there_is_a_short_recipe_for_each_use_case() -> None:
    assert len(BLOCKS) == 5
    assert {title: len(block.splitlines()) for title, block in BLOCKS if len(block.splitlines()) >= 30} == {}


def test_external_api(server: Server, follow: Callable[[str], dict[str, Any]]) -> None:
    recipe = follow("An external API")
    server.act = answer(200, '{"rate": 1.25}')
    assert recipe["rate"]("EUR") == 1.25
    server.act = answer(404, "{}")
    with pytest.raises(requests.HTTPError):
        recipe["rate"]("XXX")

    server.act = stay_silent
    begin = time.monotonic()
    assert recipe["rate"]("EUR") is None
    assert time.monotonic() - begin < 2.5
    server.act = DOWN
    assert [recipe["rate"]("EUR") for _ in range(4)] == [None] * 4
    asked = len(server.requests)
    begin = time.monotonic()
    assert [recipe["rate"]("EUR") for _ in range(100)] == [None] * 100
    assert (len(server.requests), time.monotonic() - begin < 1) == (asked, True)


def test_database(follow: Callable[[str], dict[str, Any]]) -> None:
    with sqlite3.connect("orders.db") as connection:
        connection.execute("CREATE TABLE orders (id INTEGER)")
    recipe = follow("A pool of database connections")
    assert recipe["orders"]() == 0

    with ThreadPoolExecutor(40) as pool:
        assert set(pool.map(lambda _: recipe["orders"](), range(200))) <= {0, None}
    breaker = recipe["registry"].get("orders")
    breaker.control.force_open(reason="the database moves")
    assert recipe["orders"]() is None
    breaker.control.reset(reason="moved")
    assert recipe["orders"]() == 0


def test_another_service(server: Server, follow: Callable[[str], dict[str, Any]]) -> None:
    recipe = follow("One service calls another")
    server.act = answer(200, '{"amount": 7}')
    assert recipe["in_stock"]("a-1") == 7
    assert "X-Request-ID: " in server.requests[0]

    server.act = answer(200, '{"amount": "many"}')
    assert [recipe["in_stock"]("a-1") for _ in range(5)] == [None] * 5
    asked = len(server.requests)
    assert recipe["in_stock"]("a-1") is None
    assert len(server.requests) == asked, "five answers that made no sense have opened the circuit"


def test_rate(server: Server, follow: Callable[[str], dict[str, Any]]) -> None:
    recipe = follow("A limited rate")
    running, most, lock = 0, 0, threading.Lock()

    def act(connection: Any) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        threading.Event().wait(0.02)
        with lock:
            running -= 1
        answer(200, "{}")(connection)

    server.act = act
    with ThreadPoolExecutor(20) as pool:
        sent = list(pool.map(lambda _: recipe["notify"]("hello"), range(120)))

    assert most <= 5
    assert 0 < sent.count(True) == len(server.requests)
    assert sent.count(False) > 0


def test_last_good_answer(server: Server, follow: Callable[[str], dict[str, Any]]) -> None:
    recipe = follow("The last good value")
    server.act = answer(200, '{"price": "150.10"}')
    assert recipe["price"]("AAPL") == "150.10"

    server.act = reset
    assert recipe["price"]("AAPL") == "150.10 (as of 0 s ago)"
    with pytest.raises(recipe["ClientError"]):
        recipe["price"]("MSFT")
    for _ in range(4):
        recipe["price"]("AAPL")
    with pytest.raises(CircuitOpenError):
        recipe["price"]("MSFT")
    assert recipe["price"]("AAPL").startswith("150.10 (as of")
