"""Execution of the README in an empty directory."""

import re
from collections.abc import Iterator
from configparser import ConfigParser
from pathlib import Path

import pytest

from tests.docs.pages import Reader, blocks
from tests.support import ROOT
from tests.support.misbehaving import Server, answer
from tests.support.redis_servers import free_port

README = ROOT / "README.md"
BLOCKS = blocks(README)
#: commands for a checkout, executed by test_platform.py
COMMANDS_OF_A_CHECKOUT = ["./start-demo.sh\n", "make test\n"]


@pytest.fixture
def reader(server: Server, tmp_path: Path) -> Iterator[Reader]:
    """Yield a reader with a vendor that fails."""
    server.act = answer(500, "out of order")
    reader = Reader(tmp_path, {"https://api.example.com": server.url, ":8000": f":{free_port()}"})
    yield reader
    reader.close()


def test_readme_is_short() -> None:
    assert len(README.read_text().splitlines()) <= 150


def test_readme_lists_the_extras_of_the_package() -> None:
    [listed] = re.findall(r"Extras: (.*)\.$", README.read_text(), re.MULTILINE)
    config = ConfigParser(interpolation=None)
    config.read(ROOT / "setup.cfg")
    extras = set(config["options.extras_require"]) - {"platform", "dev", "audit"}  # for a checkout
    assert set(re.findall(r"`(\w+)`", listed)) == extras


def test_reader_of_the_readme_sees_what_it_promises(reader: Reader, server: Server) -> None:
    shown = {
        block: reader.follow(block)
        for block in BLOCKS
        if not (block.language == "bash" and block.text in COMMANDS_OF_A_CHECKOUT)
    }
    [(_, refused)] = [(block, printed) for block, printed in shown.items() if "gunicorn --workers" in block.text]
    [promised] = [block.text for block in BLOCKS if block.language == "text"]

    assert len(server.requests) == 5
    seen = re.sub(r"^Retry-After: \d+", "Retry-After: 31", refused, flags=re.MULTILINE).replace("\r", "")
    assert set(promised.splitlines()) <= set(seen.splitlines())


def test_the_two_commands_are_the_only_set_up_of_the_platform() -> None:
    commands = [block.text for block in BLOCKS if block.language == "bash"]
    assert [text for text in commands if "./" in text or "make " in text] == COMMANDS_OF_A_CHECKOUT
