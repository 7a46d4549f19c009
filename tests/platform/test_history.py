"""The audit and comparison resources on a damaged database."""

import sqlite3
from pathlib import Path

import pytest
from flask.testing import FlaskClient

COMPARISON = "/api/v1/audit/comparison"
GOOD = (
    '{"at":"2026-01-05T12:00:00+00:00","code":null,"detail":null,"orderType":"BUY","price":"150","quantity":10,'
    '"seq":1,"state":"FILLED","symbol":"AAPL","tradeId":"t1","userId":"ann"}'
)


def record(file: Path, *texts: object) -> None:
    """Insert entries into the audit log without its triggers."""
    with sqlite3.connect(file) as connection:
        for n, entry in enumerate(texts, 1):
            values = (n, f"e{n}", "t1", entry, "p", "h")
            connection.execute("INSERT INTO audit_entries VALUES (?, ?, ?, CAST(? AS TEXT), ?, ?)", values)


@pytest.mark.parametrize("damaged", ["{", "[1]", '{"n": "x"}', "", b"\xff\xfe", GOOD.replace("10", "NaN")])
def test_damaged_entry_is_listed_as_damaged_beside_the_others(client: FlaskClient, file: Path, damaged: object) -> None:
    record(file, GOOD, damaged, GOOD)

    page = client.get("/api/v1/audit/trades")

    assert page.status_code == 200, page.text
    first, second, third = page.json["entries"]
    assert [first["damage"], third["damage"]] == [None, None]
    assert (first["tradeId"], third["n"]) == ("t1", 3)
    assert second["damage"]
    assert (second["n"], second["tradeId"], second["hash"]) == (2, None, "h")


def test_damaged_entry_at_the_end_of_a_page_does_not_hide_the_next(client: FlaskClient, file: Path) -> None:
    record(file, GOOD, '{"n": "x"}', GOOD)

    page = client.get("/api/v1/audit/trades?limit=2")

    assert page.json["next"] == "2"
    following = client.get("/api/v1/audit/trades?limit=2&after=2").json["entries"]
    assert [each["n"] for each in following] == [3]


def test_comparison_is_empty_before_the_first_result(client: FlaskClient) -> None:
    assert client.get(COMPARISON).json == {"at": None, "trades": 0, "differences": 0, "examples": []}


def test_differences_are_listed_with_the_state_at_each_service(client: FlaskClient, file: Path) -> None:
    examples = '[{"trade_id": "t1", "gateway": "FILLED", "portfolio": "unknown"}]'
    with sqlite3.connect(file) as connection:
        connection.execute("INSERT INTO comparisons VALUES (1, 1000000, 7, 1, ?)", (examples,))

    assert client.get(COMPARISON).json == {
        "at": "1970-01-01T00:00:01+00:00",
        "trades": 7,
        "differences": 1,
        "examples": [{"tradeId": "t1", "gateway": "FILLED", "portfolio": "unknown"}],
    }
