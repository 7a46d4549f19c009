"""The transcripts of docs/night.md, typed again: by this user, by another one, and by root on the ledger of another."""

import os
import pwd
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cb.cli import main
from tests.docs.pages import blocks
from tests.support import ROOT
from tests.support.users import as_nobody, start_as_nobody
from tests.support.waiting import until

BLOCKS = {block.title: block.text for block in blocks(ROOT / "docs/night.md")}
#: of each command: its line, and the output that the page has for it
TYPED = {
    title: re.findall(r"^[$#] (.*)\n((?:(?![$#] ).*\n)*)", BLOCKS[title], re.MULTILINE)
    for title in ("transcript", "transcript of root")
}
IS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0
pytestmark = pytest.mark.skipif(os.name != "posix", reason="ledgers in files need POSIX")
Typist = Callable[[str], "subprocess.CompletedProcess[str]"]


def masked(text: str) -> str:
    """Return text without its times, ages, process ids, user and widths of columns: they differ from run to run."""
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[+-]\d\d:\d\d", "TIME", text)
    text = re.sub(r"\b(in|FOR|worker|process|ago) \d+|\b\d+( s|s|ms|m|h)\b", "N", text)
    return re.sub(r" +", " ", re.sub(r"\(by [\w-]+\)", "(by USER)", text))


def by_this_user(line: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", *shlex.split(line)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)


def by_nobody(line: str) -> "subprocess.CompletedProcess[str]":
    return as_nobody(lambda: main(shlex.split(line)[1:]))


@pytest.fixture
def directory() -> Iterator[Path]:
    """Yield a directory that other users may be given."""
    with tempfile.TemporaryDirectory(prefix="cb-night-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as path:
        yield Path(path)


def start_drill(program: str, *, as_other: bool) -> Callable[[], None]:
    """Start the program of the page. Once its circuit is open, return a function that ends it."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as log:
        if as_other:

            def drill() -> int:
                exec(program, {"__name__": "drill"})  # the program of the page
                return 0

            pid = start_as_nobody(drill, out, log)
        else:
            process = subprocess.Popen([sys.executable, "-c", program], stdout=out, stderr=log, cwd=ROOT)

        def end() -> None:
            if as_other:
                os.kill(pid, signal.SIGTERM)
                os.waitpid(pid, 0)
            else:
                process.terminate()
                process.wait()

        def printed() -> str:
            out.seek(0)
            return out.read()

        until(lambda: printed() == "payments is down\n")
    return end


def type_again(line: str, typist: Typist) -> str:
    """Run a line of the page, and return its output as the page shows it."""
    command, _, wants_code = line.partition("; echo ")
    ran = typist(command)
    return ran.stdout + ran.stderr + (f"{ran.returncode}\n" if wants_code else "")


@pytest.mark.parametrize(
    ("typist", "as_other"),
    [
        pytest.param(by_this_user, False, id="this user"),
        pytest.param(
            by_nobody,
            True,
            id="another user",
            marks=pytest.mark.skipif(not IS_ROOT, reason="only root may change its user"),
        ),
    ],
)
def test_operator_sees_what_the_page_shows(
    typist: Typist, as_other: bool, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CB_STATE_DIR", str(directory))
    if as_other:
        os.chown(directory, pwd.getpwnam("nobody").pw_uid, -1)
    end = start_drill(BLOCKS["drill.py"], as_other=as_other)
    shown: list[tuple[str, str]] = []
    for line, _ in TYPED["transcript"]:
        if line == "kill %1":
            end()
            shown.append((line, ""))
        else:
            shown.append((line, type_again(line, typist)))
    place = {"/dev/shm/cb-998": str(directory)}
    assert [(line, masked(output)) for line, output in shown] == [
        (line, masked(replaced(output, place))) for line, output in TYPED["transcript"]
    ]


def replaced(text: str, names: dict[str, str]) -> str:
    for theirs, ours in names.items():
        text = text.replace(theirs, ours)
    return text


@pytest.mark.skipif(not IS_ROOT, reason="only root may change its user")
def test_root_sees_what_the_page_shows(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    user, drill = pwd.getpwnam("nobody"), f"drill-{os.getpid()}"
    place = Path(f"/dev/shm/cb-{user.pw_uid}")
    monkeypatch.delenv("CB_STATE_DIR", raising=False)
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
    names = {"/dev/shm/cb-998": str(place), "drill": drill, "trading": "nobody"}
    end = start_drill(replaced(BLOCKS["drill.py"], names), as_other=True)
    try:
        for line, output in TYPED["transcript of root"]:
            seen = masked(type_again(replaced(line, names), by_this_user)).splitlines()
            expected = masked(replaced(output, names)).splitlines()
            if line == "cb status":  # other services of root and of that user may run on this host
                (seen,) = ([re.sub(r"\(.*\b(drill-\d+)\b.*\)", r"(\1)", each)] for each in seen if drill in each)
            assert seen == expected
    finally:
        end()
        for each in place.glob(f"{drill}*"):
            shutil.rmtree(each) if each.is_dir() else each.unlink()
