"""The example of docs/databases.md."""

import re
import subprocess
import sys
from pathlib import Path

from tests.support import ROOT


def test_example_works_as_it_stands(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "databases.md").read_text()
    (example,) = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    example = example.replace("shm://orders", f"file://{tmp_path}/ledger")
    command = [sys.executable, "-W", "error", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{example}"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    changes = ran.stderr.splitlines()  # of the state, logged without a configuration of logging
    assert ran.returncode == 0 and [line.split(" (by ")[0] for line in changes] == [
        "circuit database: CLOSED -> FORCED_OPEN: the server is upgraded"
    ]
    assert ran.stdout == "circuit 'database' rejects calls until an operator closes it\n"
