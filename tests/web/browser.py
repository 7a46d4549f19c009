"""A real browser for tests of pages."""

import pytest

from scripts.browser import chromium, installed

__all__ = ["chromium", "needs_chromium"]

needs_chromium = pytest.mark.skipif(
    installed() is None, reason="the page is not tried in a browser: needs Chromium (apt-get install chromium)"
)
