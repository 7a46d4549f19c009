"""Lets names of the library lead to the reference, from pages and from docstrings."""

import re
from functools import cache
from pathlib import Path

REFERENCE = Path(__file__).resolve().parents[2] / "docs" / "reference"
#: where a name leads nowhere: blocks of code, headings, directives, links, tags
_ELSEWHERE = r"^ *```.*?^ *```|^(?:#|:::).*?$|\[[^\]]*\](?:\([^)]*\)|\[[^\]]*\])|<[^>\n]+>"
#: `Ledger`, `Ledger.in_file`, `Bulkhead(breaker, limit=10)`, and CircuitOpenError as a word
_CODE = r"`(?P<code>(?:cb\.)?[A-Z]\w+(?:\.[a-z_]\w*)?)(?P<arguments>\([^`\n]*\))?`"
_FOUND = re.compile(rf"{_ELSEWHERE}|{_CODE}|`[^`\n]+`|\b(?P<word>(?:[A-Z][a-z]+){{2,}})\b", re.MULTILINE | re.DOTALL)


@cache
def paths() -> dict[str, str]:
    """Return where the reference has what, by its last name; what several parts have is that of the core."""
    found = re.findall(r"^::: (\S+)$", "\n".join(page.read_text() for page in REFERENCE.glob("*.md")), re.MULTILINE)
    return {path.rpartition(".")[2]: path for path in sorted(found, key=lambda path: -path.count("."))}


def linked(text: str) -> str:
    """Return Markdown whose names are links."""
    return _FOUND.sub(_link, text)


def _link(match: re.Match[str]) -> str:
    name, _, member = (match["code"] or match["word"] or "").removeprefix("cb.").partition(".")
    path = paths().get(name)
    return f"[{match[0]}][{path}{'.' * bool(member)}{member}]" if path else match[0]
