"""The examples of docs/resilience.md run unchanged."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT

BLOCKS = re.findall(r"^```python\n(.*?)^```$", (ROOT / "docs/resilience.md").read_text(), re.MULTILINE | re.DOTALL)
PRINTED = [
    "150.10 False\n",
    "CachedValue(value={'price': '150.10'}, age=None, stale=False)\n{'price': '150.10'} True True\n",
    "150.10\n",
    "called\ncalled\nmarket-data: not for another while\n",
]


@pytest.mark.parametrize(
    ("block", "printed"), [*zip(BLOCKS, PRINTED, strict=True)], ids=["order", "stale", "retry", "rate"]
)
def test_example_prints_the_expected_lines(block: str, printed: str, tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "-c", block.replace("/var/run/trading", str(tmp_path))]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    changes = [line for line in ran.stderr.splitlines() if line.startswith("circuit test: CLOSED -> OPEN: ")]
    assert (ran.stdout, ran.stderr.splitlines()) == (printed, changes)
