"""A real browser, driven through Playwright: the system's Chromium, else Playwright's own."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Browser

_NAMES = ("chromium", "chromium-browser", "google-chrome")
#: no requests except those of the page
_OPTIONS = [
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def installed() -> str | None:
    """Return the path of the system's Chromium, None if there is none."""
    return next((path for name in _NAMES if (path := shutil.which(name))), None)


@contextmanager
def chromium() -> Iterator["Browser"]:
    """Yield a browser and close it. Raises ModuleNotFoundError without Playwright, and its Error without a browser."""
    from playwright.sync_api import sync_playwright

    # Chromium has no sandbox for root, the user of many containers.
    options = [*_OPTIONS, *(["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else [])]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=installed(), args=options)
        try:
            yield browser
        finally:
            browser.close()
