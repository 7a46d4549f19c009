"""The examples of docs/tracing.md run unchanged and print the values in their comments."""

import re
from pathlib import Path

import pytest

from tests.support.misbehaving import Server, answer

TEXT = Path("docs/tracing.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_example_prints_the_values_in_its_comments(
    server: Server, block: str, capsys: pytest.CaptureFixture[str]
) -> None:
    server.act = answer(200, '{"symbol": "AAPL"}')
    exec(compile(block.replace("http://127.0.0.1:8082", server.url), "docs/tracing.md", "exec"), {})
    assert capsys.readouterr().out.splitlines() == re.findall(r"^ *print\(.*\)  # (.*)$", block, re.MULTILINE)


def test_documentation_names_every_instrument() -> None:
    from cb.integrations.opentelemetry.instruments import _COUNTERS, _LEVELS  # the list of all instruments

    told = set(re.findall(r"^\| `(circuit_breaker\.[\w.]+)` \| `(.+?)` \|", TEXT, re.MULTILINE))
    assert told == {(name, unit) for name, unit, *_ in (*_COUNTERS, *_LEVELS)}
