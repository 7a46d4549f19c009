"""Links from names of the library, in pages and docstrings, to the reference."""

import re
from functools import cache
from pathlib import Path

REFERENCE = Path(__file__).resolve().parents[2] / "docs" / "reference"
#: Text in which names are not linked: code blocks, headings, directives, links, tags.
_ELSEWHERE = r"^ *```.*?^ *```|^(?:#|:::).*?$|\[[^\]]*\](?:\([^)]*\)|\[[^\]]*\])|<[^>\n]+>"
#: `Ledger`, `Ledger.in_file`, `Bulkhead(breaker, limit=10)`, and CircuitOpenError without backticks.
_CODE = r"`(?P<code>(?:cb\.)?[A-Z]\w+(?:\.[a-z_]\w*)?)(?P<arguments>\([^`\n]*\))?`"
_FOUND = re.compile(rf"{_ELSEWHERE}|{_CODE}|`[^`\n]+`|\b(?P<word>(?:[A-Z][a-z]+){{2,}})\b", re.MULTILINE | re.DOTALL)


@cache
def paths() -> dict[str, str]:
    """Return the full names in the reference by their last part. If several packages have a name, `cb` comes first."""
    found = re.findall(r"^::: (\S+)$", "\n".join(page.read_text() for page in REFERENCE.glob("*.md")), re.MULTILINE)
    return {path.rpartition(".")[2]: path for path in sorted(found, key=lambda path: -path.count("."))}


def linked(text: str) -> str:
    """Return Markdown with names turned into links."""
    return _FOUND.sub(_link, text)


def _link(match: re.Match[str]) -> str:
    name, _, member = (match["code"] or match["word"] or "").removeprefix("cb.").partition(".")
    path = paths().get(name)
    return f"[{match[0]}][{path}{'.' * bool(member)}{member}]" if path else match[0]
