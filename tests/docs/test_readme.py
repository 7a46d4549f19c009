"""The README is right: in a copy of the project, its commands are run in their order, and do what it says."""

import json
import os
import re
import shutil
import signal
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from cb import BreakerConfig
from tests.fleet.servers import BINARIES, Server
from tests.platform.test_demo import SECONDS, Platform, read_until

pytestmark = pytest.mark.skipif(os.name != "posix", reason="its commands are for a POSIX shell")
ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
SHIPPED = yaml.safe_load((ROOT / "config/config.yaml").read_text())
NOT_COPIED = shutil.ignore_patterns(".git", ".venv*", "run", "__pycache__", ".*_cache", ".hypothesis")
#: after each answer of curl, its status on a line of its own
CURLRC = r'silent, show-error, write-out = "\nstatus %{http_code}\n"'.replace(", ", "\n")
#: time passes twelve times as fast in the commands of the README: its 35 s are enough for a timeout of 2 s
SLEEP = '#!/bin/sh\nexec /bin/sleep "$(awk "BEGIN { print $1 / 12 }")"\n'


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def statuses(printed: str) -> list[int]:
    return [int(status) for status in re.findall(r"^status (\d+)$", printed, re.MULTILINE)]


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """Yield a fresh copy of the project, in which the first command of the README keeps running."""
    directory = tmp_path_factory.mktemp("reader")
    home = shutil.copytree(ROOT, directory / "copy", ignore=NOT_COPIED)
    (directory / ".curlrc").write_text(CURLRC)
    sleep = directory / "bin" / "sleep"
    sleep.parent.mkdir()
    sleep.write_text(SLEEP)
    sleep.chmod(0o755)
    reader = Platform(home / "run", home)
    reader.variables |= {
        "CB_VENV": ".venv",
        "CURL_HOME": str(directory),
        "MAKEFLAGS": "",
        "PATH": f"{sleep.parent}:{os.environ['PATH']}",
        "PYTEST_ADDOPTS": "tests/unit/test_config.py",  # all that its `make test` runs: the others run already
    }
    first, *_ = blocks("bash")
    assert first.startswith("./start-demo.sh ")
    stays = reader.start("bash", "-c", f"exec {first}")
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
    """Run a command as the reader. Return what it prints."""
    process = reader.start(*(at_its_ports(part, reader) for part in command))
    printed, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, f"{command[-1]}\n{printed}"
    return printed


def shell(reader: Platform, block: str) -> str:
    return run(reader, "bash", "-euc", block)


def test_python_examples_work_as_they_stand(reader: Platform, tmp_path: Path) -> None:
    with Server(BINARIES["valkey"], tmp_path) as server:
        examples = [block.replace("redis://127.0.0.1:6379/0", server.url) for block in blocks("python")]
        python = ("env", f"CB_STATE_DIR={tmp_path}/state", ".venv/bin/python", "-W", "error", "-c")
        printed = [run(reader, *python, example) for example in examples]

    flask, custom, steering, fleet, kit, client, adapter = printed
    assert custom.startswith("done CLOSED closed: ")
    assert "vendor: CLOSED -> FORCED_OPEN, the vendor migrates (by alice)" in steering
    assert "metrics only: new thresholds on trial (by " in steering
    assert fleet.startswith("forced open: the exchange migrates (by alice); probes in ")
    assert kit == "a probe\n"
    assert flask == ""
    assert 140 < float(client) < 160
    assert "'symbol': 'AAPL'" in adapter


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
    table = README.partition("| Service | Endpoint |")[2].partition("\n\n")[0]
    sections = re.split(r"^\| (?=\w)", table, flags=re.MULTILINE)[1:]
    for package, section in zip(("gateway", "portfolio", "marketdata"), sections, strict=True):
        routes = run(reader, "env", f"CB_STATE_DIR={tmp_path}", ".venv/bin/python", "-c", program, package)
        known = {re.sub(r"<(?:[^:>]+:)?\w+>", "{}", line) for line in routes.splitlines()}
        told = {re.sub(r"{\w+}", "{}", endpoint) for endpoint in re.findall(r"`((?:GET|POST) /\S+)`", section)}
        assert told <= known
        # What the text adds in words: live and ready, how to see a simulation, twins of risk and force-open; files.
        silent = known - told
        assert not {route for route in silent if not in_words.search(route)}


def test_configuration_table_and_example_are_those_of_the_code() -> None:
    shipped = SHIPPED["circuit_breaker"]
    example, fleet = blocks("yaml")
    rows = dict(re.findall(r"^\| `(\w+)` \| (\S+) \|", README, re.MULTILINE))

    assert list(rows) == [each.name for each in fields(BreakerConfig)]
    assert (
        BreakerConfig.parse(yaml.safe_load("\n".join(f"{key}: {value}" for key, value in rows.items())))
        == BreakerConfig()
    )
    assert BreakerConfig.parse(shipped) == BreakerConfig()
    assert yaml.safe_load(example)["circuit_breaker"].items() <= shipped.items()
    assert set(yaml.safe_load(fleet)["state"]) == set(SHIPPED["state"])


def test_commands_do_what_the_text_says(reader: Platform) -> None:
    _, tests, steps, trade, once, *looks, slow, failing, down, recovered, metrics, again = blocks("bash")

    assert re.search(r"\d+ passed", shell(reader, tests))
    assert "4 of 4 phases behaved" in shell(reader, steps)
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
    assert all(name in printed for name in re.findall(r"`((?:circuit_breaker|gateway)_\w+)`", README))
    shell(reader, again)
