"""The examples of docs/health.md."""

import re
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from cb.health_probes import HealthProbes
from tests.support.misbehaving import Server

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "health.md").read_text()
URL = "http://127.0.0.1:8081"


def test_examples_find_a_dependency_up_and_say_so(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    first, second = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}

    assert URL in first
    exec(first.replace(URL, server.url), names)
    try:
        deadline = time.monotonic() + 10
        while not (names["breaker"].snapshot().health and names["breaker"].snapshot().health.up):
            assert time.monotonic() < deadline
            threading.Event().wait(0.02)
    finally:
        names["monitor"].close()
    exec(second, names)
    HealthProbes(names["breaker"]).note(OSError("no route"), took=0, valid=15)

    printed = capsys.readouterr().out
    assert re.search(r"^True for 0 s, checked 0 s ago, in 0\.\d{3} s$", printed, re.MULTILINE)
    assert "portfolio: down OSError: no route" in printed
