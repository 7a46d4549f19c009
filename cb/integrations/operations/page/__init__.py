"""The files of the live page."""

from pathlib import Path

from cb.integrations.operations.panel import Panel

#: name of the file of the page itself
PAGE = "page.html"
_FOLDER = Path(__file__).parent
_SCRIPTS = ("page.js", "cards.js", "controls.js", "elements.js", "panels.js", "rates.js", "token.js")
#: replaced in the page: the names of the panels, and the directories of its files and of the other routes
_PANELS, _FILES, _API = b'content="PANELS"', b"FILES", b"API"


def page_files(panels: list[Panel]) -> dict[str, Path]:
    """Return the files of the live page by name."""
    own = {name: _FOLDER / name for name in (PAGE, "page.css", *_SCRIPTS)}
    return own | {name: panel.script for panel in panels if (name := f"{panel.name}.js") not in own}


def page_content(panels: list[Panel], files: str = ".", api: str = ".") -> bytes:
    """Return the page. Its links are relative: a proxy may serve it below a prefix that this app does not know.

    Args:
        panels: Panels of the page.
        files: Directory of its files, relative to that of the page.
        api: Directory of the other routes, relative to that of the page.
    """
    names = " ".join(panel.name for panel in panels)
    content = (_FOLDER / PAGE).read_bytes().replace(_PANELS, f'content="{names}"'.encode())
    return content.replace(_FILES, files.encode()).replace(_API, api.encode())
