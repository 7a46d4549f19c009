"""Pictures of the live page during the walk-through."""

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from .browser import chromium
from .processes import StartError

#: saves a picture with a title and returns its path; None if pictures are not recorded
Camera = Callable[[str], Path | None]
_SETTLED = 500  # milliseconds after a response until all transitions on the page have ended


@contextmanager
def recording(page_url: str, directory: Path | None) -> Iterator[Camera]:
    """Yield a function that saves pictures of a page in a directory; without a directory it does nothing.

    The page stays open, so that its charts have a history. Raises StartError without a browser.
    """
    if directory is None:
        yield lambda _: None
        return
    try:
        from playwright.sync_api import Error
    except ModuleNotFoundError as error:
        raise StartError("--record needs a driver for the browser: `make dev`, or pip install playwright") from error
    directory.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        try:
            page = stack.enter_context(chromium()).new_page(viewport={"width": 1440, "height": 1110})
            page.goto(page_url)
        except Error as error:
            raise StartError(f"--record needs Chromium: {error.message.splitlines()[0]}") from error

        def take(title: str) -> Path:
            for _ in range(2):  # the first response may belong to an earlier request
                with page.expect_response("**/dashboard/data"):
                    pass
            page.wait_for_timeout(_SETTLED)
            path = directory / f"{re.sub(r'[^a-z0-9]+', '-', title.lower())}.png"
            page.screenshot(path=path)
            return path

        yield take
