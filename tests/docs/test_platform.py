"""Execution of docs/platform.md in a copy of the project."""

import json
import os
import re
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import read_blocks
from tests.docs.test_readme import COMMANDS_OF_A_CHECKOUT
from tests.support import ROOT
from tests.support.demo_platform import SECONDS, Platform, read_until

pytestmark = pytest.mark.skipif(os.name != "posix", reason="its commands are for a POSIX shell")
PAGE = (ROOT / "docs/platform.md").read_text()
NOT_COPIED = shutil.ignore_patterns(".git", ".venv*", "run", "__pycache__", ".*_cache", ".hypothesis")
#: curl prints the status of each response on a line of its own
CURLRC = r'silent, show-error, write-out = "\nstatus %{http_code}\n"'.replace(", ", "\n")
#: `sleep` is twelve times as fast: the 35 s of the page become 3 s, enough for a timeout of 2 s
SLEEP = '#!/bin/sh\nexec /bin/sleep "$(awk "BEGIN { print $1 / 12 }")"\n'


START, TEST = COMMANDS_OF_A_CHECKOUT
#: the environment of these tests
ENVIRONMENT = Path(sys.prefix)
COMMANDS = [block.text for block in read_blocks(PAGE) if block.language == "bash"]


def statuses(printed: str) -> list[int]:
    return [int(status) for status in re.findall(r"^status (\d+)$", printed, re.MULTILINE)]


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """Yield a copy of the project, with the platform started by the command of the README."""
    directory = tmp_path_factory.mktemp("reader")
    home = shutil.copytree(ROOT, directory / "copy", ignore=NOT_COPIED)
    (directory / ".curlrc").write_text(CURLRC)
    sleep = directory / "bin" / "sleep"
    sleep.parent.mkdir()
    sleep.write_text(SLEEP)
    sleep.chmod(0o755)
    reader = Platform(home / "run", home)
    reader.variables |= {
        "CB_SERVICES__GATEWAY__COMPARE_INTERVAL": "2s",  # its metrics appear with the first comparison
        "CB_VENV": ".venv",
        "CURL_HOME": str(directory),
        "MAKEFLAGS": "",
        "PATH": f"{sleep.parent}:{os.environ['PATH']}",
    }
    stays = reader.start("bash", "-c", f"exec {START}")
    printed = read_until(stays, "until you press Ctrl-C")
    assert "All services are healthy" in printed
    yield reader
    os.killpg(stays.pid, signal.SIGINT)
    stays.communicate(timeout=SECONDS)
    assert stays.returncode == 0
    reader.assert_nothing_left()


def at_its_ports(text: str, reader: Platform) -> str:
    for name, port in (("GATEWAY", 8080), ("PORTFOLIO", 8081), ("MARKET_DATA", 8082)):
        text = re.sub(rf"(localhost|127\.0\.0\.1):{port}\b", rf"\1:{reader.ports[name]}", text)
    return text


def run(reader: Platform, *command: str) -> str:
    """Run a command, and return its output."""
    process = reader.start(*(at_its_ports(part, reader) for part in command))
    printed, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, f"{command[-1]}\n{printed}"
    return printed


def shell(reader: Platform, block: str) -> str:
    return run(reader, "bash", "-euc", block)


def test_table_of_endpoints_lists_what_the_services_answer(reader: Platform, tmp_path: Path) -> None:
    program = """
import sys
from importlib import import_module
for rule in import_module(sys.argv[1]).create_app().url_map.iter_rules():
    for method in rule.methods & {"GET", "POST"}:
        print(method, rule.rule)
"""
    in_words = re.compile(
        r"/static|/health/|/(dashboard|docs)/|GET .*/simulate/|/(notification|audit)/simulate"
        r"|/(disable|metrics-only|close|reset)$|/circuit-breaker/force-open$"
    )
    table = PAGE.partition("| Service | Endpoint |")[2].partition("\n\n")[0]
    sections = re.split(r"^\| (?=\w)", table, flags=re.MULTILINE)[1:]
    for package, section in zip(("gateway", "portfolio", "marketdata"), sections, strict=True):
        routes = run(reader, "env", f"CB_STATE_DIR={tmp_path}", ".venv/bin/python", "-c", program, package)
        known = {re.sub(r"<(?:[^:>]+:)?\w+>", "{}", line) for line in routes.splitlines()}
        told = {re.sub(r"{\w+}", "{}", endpoint) for endpoint in re.findall(r"`((?:GET|POST) /\S+)`", section)}
        assert told <= known
        # Described in words: live and ready, reading a simulation, actions beside force-open, files.
        silent = known - told
        assert not {route for route in silent if not in_words.search(route)}


def test_readme_runs_the_tests(reader: Platform) -> None:
    # One file and one process only, in the installed environment: the whole suite is running already.
    reader.variables["PYTEST_ADDOPTS"] = "tests/unit/test_config.py --maxprocesses=1"
    assert re.search(r"\d+ passed", run(reader, "env", f"CB_VENV={ENVIRONMENT}", "bash", "-euc", TEST))


def test_commands_of_the_page_work(reader: Platform) -> None:
    steps, trade, once, *looks, slow, failing, down, recovered, metrics, again = COMMANDS

    assert "4 of 4 phases passed" in shell(reader, steps)
    assert statuses(shell(reader, trade)) == [201]
    assert statuses(shell(reader, once) + shell(reader, once)) == [201, 201]
    for look in looks:
        assert statuses(shell(reader, look)) == [200]
    assert statuses(shell(reader, slow)) == [200]
    assert set(statuses(shell(reader, failing))) <= {200, 201, 503}
    printed = shell(reader, down)
    assert statuses(printed)[-2:] == [503, 200]
    assert '"code": "circuit-open"' in printed
    assert '"state":"OPEN"' in printed.replace('": "', '":"')
    printed = shell(reader, recovered)
    assert statuses(printed) == [200, 201, 201, 201, 200]
    assert (
        json.loads(printed.split("status 201\n")[-1].partition("\nstatus")[0])["breakers"]["market-data"]["state"]
        == "CLOSED"
    )
    printed = shell(reader, metrics)
    told = set(re.findall(r"`((?:circuit_breaker|gateway)_\w+)`", PAGE))
    assert {name for name in told if name in printed} == told
    shell(reader, again)
