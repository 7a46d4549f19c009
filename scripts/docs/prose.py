"""Figures about the English of docstrings: question words as openings, and the rate of one of them."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
#: packages whose docstrings are measured
PACKAGES = ("cb", "servicekit", "gateway", "portfolio", "marketdata", "scripts", "benchmarks", "tests")
#: Limit of the word "what", per 1,000 words of docstring.
WHAT_PER_1000 = 1.0

_OPENING = re.compile(r"(what|who|whose|whom|whether|where|how)\b", re.IGNORECASE)
_WHAT = re.compile(r"\bwhat\b", re.IGNORECASE)
_DOCUMENTED = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class Docstring:
    """One docstring, and the place of its first line."""

    place: str
    text: str

    @property
    def opens_with_a_question_word(self) -> bool:
        return _OPENING.match(self.text) is not None


@dataclass(frozen=True, slots=True)
class Figures:
    """Figures of the docstrings below one folder."""

    folder: str
    docstrings: list[Docstring]

    @property
    def openings(self) -> list[Docstring]:
        """Docstrings that open with a question word."""
        return [each for each in self.docstrings if each.opens_with_a_question_word]

    @property
    def words(self) -> int:
        """Number of words of all docstrings."""
        return sum(len(each.text.split()) for each in self.docstrings)

    @property
    def with_what(self) -> list[Docstring]:
        """Docstrings with the counted word."""
        return [each for each in self.docstrings if _WHAT.search(each.text)]

    @property
    def what_per_1000(self) -> float:
        """Rate of the counted word, per 1,000 words."""
        return 1000 * sum(len(_WHAT.findall(each.text)) for each in self.docstrings) / max(self.words, 1)

    def __str__(self) -> str:
        return (
            f"{self.folder:12} {len(self.docstrings):5} docstrings {self.words:7} words "
            f"{len(self.openings):4} openings {self.what_per_1000:6.2f} what per 1,000 words"
        )


def figures(folder: str) -> Figures:
    """Measure the docstrings of all Python files below a folder of the project."""
    return Figures(folder, [each for path in sorted((ROOT / folder).rglob("*.py")) for each in _docstrings(path)])


def _docstrings(path: Path) -> Iterator[Docstring]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, _DOCUMENTED) and (text := ast.get_docstring(node)):
            yield Docstring(f"{path.relative_to(ROOT)}:{node.body[0].lineno}", text)
