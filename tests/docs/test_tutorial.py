"""Execution of docs/tutorial.md, and the output that it promises."""

import json
import re
from pathlib import Path

from tests.docs.pages import Reader, blocks
from tests.support import ROOT
from tests.support.redis_servers import free_port

PAGE = ROOT / "docs/tutorial.md"


def test_reader_of_tutorial_md_sees_what_it_promises(tmp_path: Path) -> None:
    reader = Reader(tmp_path, {port: str(free_port()) for port in ("8000", "8001")})
    try:
        done = [(block, reader.follow(block)) for block in blocks(PAGE)]
    finally:
        reader.close()
    _, run, fail, refused, look, recover, control = [text for block, text in done if block.language == "bash"]

    assert json.loads(run) == {"price": "150.10"}
    answers = re.findall(r"(\d+) worker <(\d+)> answered (\d+)", fail)
    calls = {status: sum(int(number) for number, _, each in answers if each == status) for status in ("200", "502")}
    assert calls["200"] == 1
    assert 3 <= calls["502"] <= 6  # four workers, each with one call under way
    assert len({worker for _, worker, status in answers if status == "503"}) > 1
    assert refused.startswith("HTTP/1.1 503")
    assert re.search(r"^Retry-After: [123]$", refused, re.MULTILINE)
    assert re.search(r"^\S+ +vendor +OPEN\b", look, re.MULTILINE)
    assert "a circuit is not closed" in look
    assert recover.count('{"price":"150.10"}') == 4
    assert re.search(r"^\S+ +vendor +CLOSED\b", recover, re.MULTILINE)
    assert recover.index("CLOSED -> OPEN") < recover.index("HALF_OPEN -> CLOSED")
    assert re.search(r'"code": "circuit-open".*\n.*\{"price":"150.10"\}', control, re.DOTALL)
