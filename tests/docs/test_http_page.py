"""The examples of docs/http.md run unchanged and print the values in their comments."""

import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.misbehaving import Server, answer

BLOCKS = re.findall(r"^```python\n(.*?)^```$", Path("docs/http.md").read_text(), re.MULTILINE | re.DOTALL)


@pytest.fixture
def server() -> Iterator[Server]:
    """Yield the server of the examples, which returns a price for every path."""
    server = Server()

    def act(connection: socket.socket) -> None:
        if server.requests[-1].startswith("GET /elsewhere "):
            answer(302, "", "Location: /api/v1/prices/AAPL")(connection)
        else:
            answer(200, '{"symbol": "AAPL", "price": "150.10"}')(connection)

    server.act = act
    yield server
    server.close()


def test_documentation_has_an_example_of_each_subject() -> None:
    subjects = ("check=", "fallback=", "headers=", "guarded_session(")
    assert not [subject for subject in subjects if subject not in "".join(BLOCKS)]


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_example_prints_the_values_in_its_comments(
    server: Server, block: str, capsys: pytest.CaptureFixture[str]
) -> None:
    exec(compile(block.replace("http://127.0.0.1:8082", server.url), "docs/http.md", "exec"), {})
    assert capsys.readouterr().out.splitlines() == re.findall(r"^ *print\(.*\)  # (.*)$", block, re.MULTILINE)
