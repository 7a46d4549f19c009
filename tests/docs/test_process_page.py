"""docs/process.md lists every object, thread and hook of the library that is global to a process."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import ROOT

PAGE = (ROOT / "docs" / "process.md").read_text()
#: calls that affect the whole process, wherever they are
HOOKS = {
    "atexit.register",
    "os.register_at_fork",
    "signal.signal",
    "signal.setitimer",
    "threading.Thread",
    "ContextVar",
}
#: constructors of objects that modules keep for the life of the process
REGISTRIES = {
    *(
        "weakref.WeakSet",
        "weakref.WeakValueDictionary",
        "weakref.WeakKeyDictionary",
        "threading.RLock",
        "threading.Lock",
    ),
    *("threading.local", "set", "dict", "list", "defaultdict", "deque", "mmap.mmap"),
}


def process_globals(source: str) -> Iterator[str]:
    """Yield the hooks, threads and kept objects of a module that are global to its process."""
    tree = ast.parse(source)
    own = {node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef | ast.FunctionDef)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in HOOKS:
            yield ast.unparse(node.func)
        if isinstance(node, ast.Global):
            yield from node.names
        if isinstance(node, ast.FunctionDef):
            yield from (ast.unparse(each) for each in node.decorator_list if ast.unparse(each) in HOOKS)
        if isinstance(node, ast.Assign) and re.match(
            r"os\.environ\[|uwsgi\.|sys\.\w*hook", ast.unparse(node.targets[0])
        ):
            yield ast.unparse(node.targets[0])
    for node in tree.body:
        value = node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None
        made = ast.unparse(value.func) if isinstance(value, ast.Call) else ""
        # A function of the module that returns such an object counts as well: it is called once, at the import.
        empty = isinstance(value, ast.List | ast.Dict | ast.Set) and ast.unparse(value) in ("[]", "{}")
        if made in REGISTRIES or made in own or empty:
            assert isinstance(node, ast.Assign | ast.AnnAssign)
            yield ast.unparse(node.targets[0] if isinstance(node, ast.Assign) else node.target)


FOUND = {
    path.relative_to(ROOT).as_posix(): sorted({*process_globals(path.read_text())})
    for path in sorted((ROOT / "cb").rglob("*.py"))
}


@pytest.mark.parametrize("path", [path for path, names in FOUND.items() if names])
def test_page_lists_everything_that_a_module_has_for_the_whole_process(path: str) -> None:
    (*rows,) = (line for line in PAGE.splitlines() if line.startswith("| ") and f"]({Path('..') / path})" in line)
    missing = [name for name in FOUND[path] if not any(f"`{name}`" in row for row in rows)]
    assert not missing, path


def test_page_lists_no_module_that_has_nothing_for_the_whole_process() -> None:
    listed = set(re.findall(r"\]\(\.\./(cb/[\w/]+\.py)\)", PAGE))
    assert listed == {path for path, names in FOUND.items() if names}


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("import atexit\n@atexit.register\ndef f(): pass", ["atexit.register"]),
        ("import os\nif hasattr(os, 'x'):\n    os.register_at_fork(before=f)", ["os.register_at_fork"]),
        ("class W: ...\nWATCH = W()", ["WATCH"]),
        ("ALL: weakref.WeakSet[int] = weakref.WeakSet()", ["ALL"]),
        ("def f():\n    seen = set()\n    os.environ['A'] = 'b'", ["os.environ['A']"]),
        ("TABLE = {'a': 1}\nSIZES = frozenset()", []),
    ],
)
def test_search_finds_hooks_and_objects_of_modules(source: str, names: list[str]) -> None:
    assert [*process_globals(source)] == names
