"""Panels that an app adds to the live page."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cb.errors import ConfigError

_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Panel:
    """A panel of the live page: data that the page polls, and a JavaScript module that shows it.

    The module is served as `NAME.js` beside the page's own. It exports `title`, the heading, and
    `show(body, data, page)`, which is called after each poll with the panel's element, the panel's data and `page`:
    `page.now` in seconds, `page.operator`, true if the user may control breakers, and `page.reveal(visible)`, which
    shows or hides the panel.
    It may import the page's own modules, such as `./elements.js`.

    Args:
        name: Lower-case letters, digits and hyphens: the name of the module and the key of the data.
        script: Path of the JavaScript module.
        data: Returns a JSON object within milliseconds, without calls to other services. An exception is
            logged and shown as `{"unavailable": CLASS}`.
    """

    name: str
    script: Path
    data: Callable[[], Mapping[str, Any]]

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ConfigError("name", "be up to 32 lower-case letters, digits and hyphens", self.name)
