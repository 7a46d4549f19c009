"""The time from an empty directory to the first guarded call under four workers, by the README alone."""

import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path

import pytest

from tests.packaging.conftest import Built
from tests.support import ROOT
from tests.support.misbehaving import Server, answer
from tests.support.redis_servers import free_port
from tests.support.waiting import until

pytestmark = [pytest.mark.nightly, pytest.mark.quiet]
PAGE = ROOT / "docs/applications.md"
#: seconds: ten minutes, of which a reader needs most
LONGEST = 300


def test_readme_leads_from_an_empty_directory_to_a_guarded_call_of_four_workers(
    built: Built, server: Server, tmp_path: Path
) -> None:
    readme = (ROOT / "README.md").read_text()
    [extras] = re.findall(r"`pip install 'distributed-circuit-breaker(\[flask,http\])' gunicorn`", readme)
    [app] = re.findall(r'^```python title="app.py"\n(.*?)^```', readme, re.MULTILINE | re.DOTALL)
    server.act = answer(500, "out of order")
    home, port = tmp_path / "shop", free_port()
    environ = os.environ | {"CB_STATE_DIR": str(tmp_path), "PIP_NO_CACHE_DIR": "1"}
    begin = time.monotonic()

    subprocess.run([sys.executable, "-m", "venv", home / ".venv"], check=True)
    programs = home / ".venv/bin"
    subprocess.run([programs / "pip", "install", "--quiet", f"{built.wheel}{extras}", "gunicorn"], check=True)
    installed = time.monotonic()
    (home / "app.py").write_text(app.replace("https://api.example.com", server.url))
    command = [programs / "gunicorn", "--workers", "4", "--bind", f"127.0.0.1:{port}", "app:app"]
    with subprocess.Popen(command, cwd=home, env=environ, stderr=subprocess.DEVNULL) as workers:
        try:
            until(lambda: status(port) is not None)
            first = time.monotonic()
            until(lambda: status(port) == 503)
            last = time.monotonic()
        finally:
            workers.terminate()

    assert len(server.requests) <= 5 + 3
    assert last - begin < LONGEST
    if "CB_WRITE" in os.environ:
        facts = f"""| Step | Seconds |
| --- | ---: |
| Environment and installation | {installed - begin:.0f} |
| Four workers, and the first guarded call | {first - installed:.1f} |
| Five failures, and the first rejection | {last - first:.1f} |
"""
        marked = r"(?s)(<!-- first call: .*? -->\n).*?(<!-- /first call -->)"
        PAGE.write_text(re.sub(marked, lambda found: found[1] + facts + found[2], PAGE.read_text()))


def status(port: int) -> int | None:
    """Return the status of one call, None if no worker listens yet."""
    with suppress(urllib.error.URLError):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/price", timeout=10) as response:
                return int(response.status)
        except urllib.error.HTTPError as error:
            return error.code
    return None
