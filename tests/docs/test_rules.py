"""docs/rules.md: every rule has tests, and every rule that a test names exists."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.support import ROOT

RULES = [int(number) for number in re.findall(r"^### Rule (\d+)$", (ROOT / "docs/rules.md").read_text(), re.MULTILINE)]


def rules_named(text: str) -> Iterator[int]:
    """Yield the rules in `docs/rules.md, rules 1 to 3, 5 and 24`."""
    for listed in re.findall(r"docs/rules\.md,\s+rules?\s+((?:\d+|,\s+|\s+to\s+|\s+and\s+)+)", text):
        for first, last in re.findall(r"(\d+)(?:\s+to\s+(\d+))?", listed):
            yield from range(int(first), int(last or first) + 1)


def modules_by_rule() -> dict[int, list[Path]]:
    """Return the test modules that name each rule in their docstring."""
    found: dict[int, list[Path]] = {}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for rule in rules_named(ast.get_docstring(ast.parse(path.read_text())) or ""):
            found.setdefault(rule, []).append(path)
    return found


def test_ranges_and_lists_of_rules_are_read() -> None:
    assert [*rules_named("docs/rules.md, rules 1 to 3, 5 and 24. And rule 9.")] == [1, 2, 3, 5, 24]


def test_every_rule_is_held_by_tests_that_name_it() -> None:
    assert [*range(1, len(RULES) + 1)] == RULES
    assert set(modules_by_rule()) == set(RULES)


def test_sources_refer_to_no_paper_outside_the_repository() -> None:
    pattern = re.compile(r"\b(?:DESIGN|PEERS|PLATFORM|SEED|WSGI|STYLE|HOUSE|FIELD)(?:\.md\b|,? section \d)")
    folders = (
        "cb",
        "servicekit",
        "gateway",
        "portfolio",
        "marketdata",
        "scripts",
        "benchmarks",
        "config",
        "docs",
        "tests",
    )
    files = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.suffix in {".py", ".md", ".lua"}]
    assert not [path for path in files if path != Path(__file__) and pattern.search(path.read_text())]
