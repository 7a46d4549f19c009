"""The log lines in docs/operations.md. The commands of that page run in tests/platform/test_operations.py."""

import re
from pathlib import Path

from tests.docs.pages import ROOT, Reader, blocks


def test_program_logs_the_lines_of_the_page(tmp_path: Path) -> None:
    found = blocks(ROOT / "docs/operations.md")
    (program,) = (block for block in found if block.language == "python")
    (output,) = (block for block in found if block.title == "output")
    reader = Reader(tmp_path, {})
    assert re.sub(r"\(worker \d+\)", "(worker 4711)", reader.follow(program)) == output.text
    reader.close()
