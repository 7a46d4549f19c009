"""The commands and requests of docs/operations.md, run on the services."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cb.cli.arguments import CONTROLS
from tests.platform.conftest import Platform
from tests.support import ROOT

TEXT = (ROOT / "docs/operations.md").read_text()
BY_HAND, OVER_HTTP, *_ = re.findall(r"^```bash\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


def shell(platform: Platform, tmp_path: Path, block: str) -> list[str]:
    """Run the commands of a block one by one. Return the output of each; fails if a command fails."""
    (tmp_path / "cb").write_text(f'#!/bin/sh\ncd {ROOT} && exec {sys.executable} -m cb "$@"\n')
    (tmp_path / "cb").chmod(0o755)
    block = block.replace("run/state", str(platform.directory / "state"))
    block = block.replace("localhost:8080", f"127.0.0.1:{platform.ports['gateway']}").replace("curl ", "curl -sS ")
    block = re.sub(r"^(?=cb|curl)", "echo ---; ", block, flags=re.MULTILINE)
    environ = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "COLUMNS": "200"}
    ran = subprocess.run(["bash", "-c", block], env=environ, capture_output=True, text=True, check=False, timeout=60)
    assert (ran.returncode, ran.stderr) == (0, "")
    return ran.stdout.split("---\n")[1:]


@pytest.fixture
def thresholds(platform: Platform, tmp_path: Path) -> Iterator[None]:
    """Restore the thresholds of the portfolio's breaker, which an operator's change outlasts even a restart."""
    found = platform.get("gateway", "/api/v1/circuit-breaker/status").json()["breakers"]["portfolio"]["config"]
    yield
    settings = f"timeout={found['timeout']:g}s failure_threshold={found['failure_threshold']}"
    shell(platform, tmp_path, f"export CB_STATE_DIR=run/state\ncb configure portfolio {settings}\n")


def test_commands_of_the_page_work(platform: Platform, tmp_path: Path, thresholds: None) -> None:
    status, explained, opened, shadowed, events, document, closed, reset, configured = shell(
        platform, tmp_path, BY_HAND
    )
    assert {line.split()[0] for line in status.splitlines()} == {"LEDGER", "gateway", "portfolio"}
    assert explained.startswith("gateway market-data: closed: ")
    assert opened.startswith("gateway market-data: CLOSED -> FORCED_OPEN, the exchange migrates (by ")
    assert shadowed.startswith("gateway portfolio: CLOSED -> METRICS_ONLY, new thresholds on trial (by ")
    assert "the exchange migrates" in events and "new thresholds on trial" in events
    states = {each["name"]: each["breakers"] for each in json.loads(document)["ledgers"]}["gateway"]
    assert (states["market-data"]["state"], states["portfolio"]["state"]) == ("FORCED_OPEN", "METRICS_ONLY")
    assert closed.startswith("gateway market-data: FORCED_OPEN -> CLOSED, done early (by ")
    assert reset.startswith("gateway portfolio: METRICS_ONLY -> CLOSED, by hand (by ")
    assert configured == "gateway portfolio: timeout = 60.0, failure_threshold = 20\n"
    assert platform.trade().status_code == 201


def test_requests_of_the_page_work(platform: Platform, tmp_path: Path) -> None:
    opened, reset, events = (json.loads(each) for each in shell(platform, tmp_path, OVER_HTTP))
    assert (opened["to"], reset["from"], reset["to"]) == ("FORCED_OPEN", "FORCED_OPEN", "CLOSED")
    assert [each["reason"] for each in events["events"]] == [opened["reason"], reset["reason"]]
    assert opened["reason"].startswith("the exchange migrates (by alice, request ")
    assert platform.trade().status_code == 201


def test_page_lists_every_command_and_exit_code(tmp_path: Path) -> None:
    ran = subprocess.run([sys.executable, "-m", "cb", "--help"], cwd=ROOT, capture_output=True, text=True, check=False)
    codes = re.findall(r"^  (\d)  ", ran.stdout, re.MULTILINE)
    assert re.findall(r"^\| (\d) \|", TEXT, re.MULTILINE) == codes == ["0", "1", "2", "3"]
    assert set(re.findall(r"`cb ([\w-]+)", TEXT)) >= {"status", "watch", "explain", "events", "forget", *CONTROLS}
