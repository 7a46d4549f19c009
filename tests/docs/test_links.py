"""Links of the README and of the pages within the repository. Links to other hosts are not followed."""

import re
from pathlib import Path

import pytest

from scripts.docs.repository import ROOT, links, resolve, slug

PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


def anchors(page: Path) -> set[str]:
    """Return the anchors of the headings of a page."""
    text = re.sub(r"^ *```.*?^ *```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return {slug(title) for title in re.findall(r"^#+ (.*)$", text, re.MULTILINE)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_of_a_page_lead_to_files_and_headings_of_the_repository(page: Path) -> None:
    for target in links(page.read_text()):
        path, anchor = resolve(page.relative_to(ROOT).as_posix(), target)
        assert (ROOT / path).exists(), target
        assert not anchor or anchor in anchors(ROOT / path), target


def test_link_in_code_is_no_link() -> None:
    assert [*links('`[a](b)` [`c`](d.md#e)\n```text\n[f](g)\n```\n[h](https://i) <img src="j.png">')] == [
        "d.md#e",
        "j.png",
    ]
