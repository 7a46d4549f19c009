"""Every test file lies in the room of its subject, as its imports show."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import ROOT
from tests.support.sources import tree

TESTS = ROOT / "tests"
ALL = sorted(TESTS.rglob("*.py"))
FILES = [path for path in ALL if path.stem.startswith("test_") and path.parent != TESTS]
#: starting a process
STARTS = r"subprocess|multiprocessing(?!\.pool)|os\.(fork|spawn\w*|posix_spawn)\b|cb\.testing import .*\b[wW]orkers?\b"
PLATFORM = r"gateway|portfolio|marketdata|scripts|benchmarks|tests\.support\.gateways"
KIT = rf"servicekit|tests\.support\.shop\w*|{PLATFORM}"
#: subject of each room: each of its files names it, or uses a helper that does
SUBJECTS = {
    "unit": r"^(from|import) cb\b",
    "processes": STARTS,
    "fleet": r"\bcb\.fleet\b",
    "http": r"\bcb\.http\b",
    "resilience": r"\bcb\.resilience\b",
    "cli": r"\bcb\.cli\b|\"-m\", \"cb\"",
    "integrations": r"\bcb\.integrations\b",
    "servicekit": r"\bservicekit\b",
    "platform": rf"\b(servicekit|{PLATFORM})\b",
    "packaging": STARTS,
    "applications": STARTS,
    "docs": r"\.md\b|\bscripts\.docs\b",
    "proofs": r"\b(tests\.proofs|benchmarks)\b",
}
#: imports that make a file one of another room
ELSEWHERE = {
    "unit": rf"{KIT}|cb\.(cli|fleet|http)|subprocess|tests\.support\.(redis_servers|misbehaving|databases)",
    **dict.fromkeys(("processes", "fleet", "http", "resilience", "cli", "integrations"), KIT),
    "servicekit": PLATFORM,
}


def room(path: Path) -> str:
    return path.relative_to(TESTS).parts[0]


def module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))


def fixtures(path: Path) -> set[str]:
    """Return the names that a file defines or imports, for the tests of its room."""
    imported = {alias.name for node in tree(path).body if isinstance(node, ast.ImportFrom) for alias in node.names}
    return imported | {node.name for node in tree(path).body if isinstance(node, ast.FunctionDef)}


def parameters(path: Path) -> set[str]:
    functions = (node for node in ast.walk(tree(path)) if isinstance(node, ast.FunctionDef))
    used = re.findall(r"usefixtures\(['\"](\w+)", path.read_text())
    return {argument.arg for function in functions for argument in function.args.args} | {*used}


def helpers(path: Path) -> set[Path]:
    """Return the other files of the tests that a file uses: imports, and those that have its fixtures."""
    modules = {module(other): other for other in ALL}
    found: set[Path] = set()
    left = [path]
    while left:
        each = left.pop()
        used = {modules[name] for name in imports(each) if name in modules}
        above = [folder / "conftest.py" for folder in each.parents if folder.is_relative_to(TESTS) and folder != TESTS]
        used |= {conftest for conftest in above if conftest in ALL and parameters(each) & fixtures(conftest)}
        left += used - found
        found |= used
    return found - {path}


def named(paths: list[Path]) -> list[str]:
    return [str(path.relative_to(ROOT)) for path in paths]


def test_every_room_has_a_subject() -> None:
    assert {room(path) for path in FILES} == {*SUBJECTS}


@pytest.mark.parametrize("name", SUBJECTS)
def test_every_file_of_a_room_uses_the_subject_of_the_room(name: str) -> None:
    subject = re.compile(SUBJECTS[name], re.MULTILINE)
    files = [path for path in FILES if room(path) == name]
    strangers = [path for path in files if not any(subject.search(each.read_text()) for each in (path, *helpers(path)))]
    assert not strangers, named(strangers)


@pytest.mark.parametrize("name", ELSEWHERE)
def test_no_file_of_a_room_imports_the_subject_of_a_room_above(name: str) -> None:
    other = re.compile(rf"({ELSEWHERE[name]})(\..*)?")
    files = [path for path in FILES if room(path) == name]
    strangers = [path for path in files if any(other.fullmatch(imported) for imported in imports(path))]
    assert not strangers, named(strangers)


def test_unit_tests_start_no_process() -> None:
    starts = re.compile(STARTS)
    strangers = [path for path in FILES if room(path) == "unit" and starts.search(path.read_text())]
    assert not strangers, named(strangers)


def test_unit_tests_ask_for_their_process_when_they_run() -> None:
    # `make mutate` imports them in one process and runs them in forks. There, a number of the import is of another
    # process, and a pool of the import has no thread: all forks would fail, and each mutant would look killed.
    kept = re.compile(r"^\w.* = .*(\bgetpid|PoolExecutor|Thread)\(", re.MULTILINE)
    strangers = [path for path in ALL if room(path) in {"unit", "support"} and kept.search(path.read_text())]
    assert not strangers, named(strangers)


def test_tests_use_helpers_of_their_own_room_or_of_all() -> None:
    # Proofs are the long versions of tests of other rooms.
    strangers = [
        path
        for path in ALL
        if path.parent != TESTS and room(path) != "proofs"
        for imported in imports(path)
        if (match := re.match(r"tests\.(\w+)", imported)) and match[1] not in {room(path), "support"}
    ]
    assert not strangers, named(strangers)
