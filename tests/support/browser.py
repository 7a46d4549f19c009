"""A real browser for tests of pages."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, Dialog, Page

from scripts.browser import chromium, installed

__all__ = ["chromium", "needs_chromium", "watched"]

needs_chromium = pytest.mark.skipif(
    installed() is None, reason="the page is not tried in a browser: needs Chromium (apt-get install chromium)"
)
_NOTHING = re.compile(r"(?!)")


@contextmanager
def watched(browser: Browser, forgiven: re.Pattern[str] = _NOTHING) -> Iterator[Page]:
    """Yield a page. At its end nothing has complained of it: no console, no dialog, no breach of its policy."""
    page = browser.new_page()
    warnings: list[str] = []

    def alarmed(dialog: Dialog) -> None:
        warnings.append(dialog.message)
        dialog.dismiss()

    page.on("console", lambda said: warnings.append(said.text) if said.type in {"error", "warning"} else None)
    page.on("pageerror", lambda error: warnings.append(error.message))
    page.on("dialog", alarmed)
    page.add_init_script(
        "addEventListener('securitypolicyviolation', (e) => console.error(e.violatedDirective, e.blockedURI))"
    )
    yield page
    page.close()
    assert [each for each in warnings if not forgiven.match(each)] == []
