"""Execution of a documentation page: its files are written and its commands and programs run, in order.

A program or command must exit with 0, and a line `print(...)  # text` must print that text. A block with `title="NAME"`
is a file of that name. Blocks of `text` are not executed; with `title="output"` they are the output of the last block.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import yaml

from tests.support import ROOT

SECONDS = 60
_BLOCK = re.compile(r"^```(\w+)(?: +title=\"([^\"]+)\")?[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PRINTED = re.compile(r"^ *print\(.*\)  # (.*)$", re.MULTILINE)
#: waits for a server that a command has just started; the retries of curl itself would also repeat a 503
_CURL = """#!/bin/sh
for attempt in $(seq 200); do
  {curl} --silent --show-error "$@"
  code=$?
  [ $code = 7 ] || exit $code
  sleep 0.1
done
exit 7
"""


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block."""

    language: str
    #: name of the file, None for a block that is run
    title: str | None
    text: str


def blocks(page: Path) -> list[Block]:
    """Return the blocks of a page, in order."""
    return read_blocks(page.read_text())


def read_blocks(text: str) -> list[Block]:
    """Return the blocks of a text, in order."""
    text = re.sub(r"^ +(?=```)", "", text, flags=re.MULTILINE)
    return [Block(language, title or None, code) for language, title, code in _BLOCK.findall(text)]


class Reader:
    """Executes the blocks of one page in a directory of its own. `close` ends the processes that are left."""

    def __init__(self, home: Path, in_place_of: Mapping[str, str]) -> None:
        self._home = home
        self._in_place_of = in_place_of
        self._groups: list[int] = []
        (home / ".bin").mkdir()
        self._offer("cb", f'#!/bin/sh\nexec {sys.executable} -m cb "$@"\n')
        self._offer("curl", _CURL.format(curl=shutil.which("curl")))
        self._offer("pip", "#!/bin/sh\n")  # the packages are installed already
        self._environ = os.environ | {
            "CB_STATE_DIR": str(home),  # ledgers of its own; the command finds no other ledgers of this machine
            "HOME": str(home),
            "PATH": os.pathsep.join((f"{home}/.bin", str(Path(sys.executable).parent), os.environ["PATH"])),
            "PYTHONPATH": str(ROOT),
            "PYTHONWARNINGS": "error",
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "PYTEST_PLUGINS": "cb.integrations.pytest_plugin",  # as if this library were installed
        }

    def follow(self, block: Block) -> str:
        """Execute a block, and return its output."""
        text = self._at_our_addresses(block.text)
        if block.title:
            path = self._home / block.title
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        elif read := _READ.get(block.language):
            read(text)
        elif block.language == "python":
            printed = self._run(sys.executable, "-c", text)
            assert printed.splitlines() == _PRINTED.findall(text) or not _PRINTED.findall(text), printed
            return printed
        else:
            assert block.language == "bash", f"blocks of {block.language} are not supported"
            return self._run("bash", "-euo", "pipefail", "-c", text)
        return ""

    def close(self) -> None:
        for group in self._groups:
            with suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)

    def _offer(self, command: str, script: str) -> None:
        file = self._home / ".bin" / command
        file.write_text(script)
        file.chmod(0o755)

    def _at_our_addresses(self, text: str) -> str:
        for theirs, ours in self._in_place_of.items():
            text = text.replace(theirs, ours)
        return text

    def _run(self, *command: str) -> str:
        # Into files: a process in the background would keep a pipe open.
        out, err = self._home / ".out", self._home / ".err"
        with out.open("w") as stdout, err.open("w") as stderr:
            process = subprocess.Popen(
                command, cwd=self._home, env=self._environ, stdout=stdout, stderr=stderr, start_new_session=True
            )
            self._groups.append(process.pid)
            code = process.wait(SECONDS)
        assert code == 0, f"{command[-1]}\n{out.read_text()}{err.read_text()}"
        return out.read_text()


_READ: Mapping[str, Callable[[str], object]] = {
    "json": json.loads,
    "text": str,
    "toml": tomllib.loads,
    "yaml": yaml.safe_load,
}
