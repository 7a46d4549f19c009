"""docs/process.md lists every object, thread and hook of the library that is global to a process."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tests.support import ROOT
from tests.support.sources import tree

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


def process_globals(tree: ast.Module) -> Iterator[str]:
    """Yield the hooks, threads and kept objects of a module that are global to its process."""
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


@cache
def found() -> dict[str, list[str]]:
    """Return what is global to the process in each module of the library that has such things."""
    files = sorted((ROOT / "cb").rglob("*.py"))
    names = {path.relative_to(ROOT).as_posix(): sorted({*process_globals(tree(path))}) for path in files}
    return {path: each for path, each in names.items() if each}


def test_page_lists_everything_that_a_module_has_for_the_whole_process() -> None:
    missing = []
    for path, names in found().items():
        (*rows,) = (line for line in PAGE.splitlines() if line.startswith("| ") and f"]({Path('..') / path})" in line)
        missing += [f"{path}: {name}" for name in names if not any(f"`{name}`" in row for row in rows)]
    assert not missing


def test_page_lists_no_module_that_has_nothing_for_the_whole_process() -> None:
    listed = set(re.findall(r"\]\(\.\./(cb/[\w/]+\.py)\)", PAGE))
    assert listed == {*found()}
