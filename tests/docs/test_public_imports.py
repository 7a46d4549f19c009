"""The examples of all pages import public packages of the library only, and names that these export."""

import ast
import importlib
import re
from collections.abc import Iterator
from types import ModuleType

from tests.docs.pages import ROOT, blocks

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
PUBLIC = re.compile(r"cb|cb\.(fleet|http|resilience|testing|integrations\.\w+)")
#: also in a command, or in a program that a command reads
IMPORTED = re.compile(r"\b(?:from|import) +(cb(?:\.\w+)*)\b")


def examples() -> Iterator[tuple[str, str, str]]:
    """Yield the page, the language and the text of each block."""
    for page in PAGES:
        for block in blocks(page):
            yield page.relative_to(ROOT).as_posix(), block.language, block.text


EXAMPLES = [*examples()]
PROGRAMS = [(page, ast.parse(text)) for page, language, text in EXAMPLES if language == "python"]


def test_examples_import_public_packages_only() -> None:
    imported = [(page, name) for page, _, text in EXAMPLES for name in IMPORTED.findall(text)]
    assert len(imported) > 100
    assert not [(page, name) for page, name in imported if not PUBLIC.fullmatch(name)]


def exports(module: ModuleType, name: str) -> bool:
    """Tell if a module exports a name: one of its `__all__`, or without that one that it defines."""
    names = getattr(module, "__all__", None)
    return name in names if names is not None else getattr(module, name).__module__ == module.__name__


def test_examples_import_exported_names_only() -> None:
    wanted = {
        (page, node.module, alias.name)
        for page, program in PROGRAMS
        for node in ast.walk(program)
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "cb"
        for alias in node.names
        if alias.name != "*"
    }
    assert len(wanted) > 100
    assert not [each for each in sorted(wanted) if not exports(importlib.import_module(each[1]), each[2])]


def test_examples_use_no_private_attribute() -> None:
    private = re.compile(r"(?!self\.).*\._[a-z]\w*|cb\.(?!fleet|http|resilience|testing|integrations)[a-z]\w*")
    used = [
        (page, ast.unparse(node))
        for page, program in PROGRAMS
        for node in ast.walk(program)
        if isinstance(node, ast.Attribute) and private.fullmatch(ast.unparse(node))
    ]
    assert not used
