"""Static files, and a Content-Security-Policy that permits only files of this app."""

from functools import cache
from pathlib import Path

_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
#: media types of the files
MEDIA_TYPES = tuple(_TYPES.values())
#: the policy
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)


def content_type(suffix: str) -> str:
    """Return the content type of files with this suffix."""
    return f"{_TYPES[suffix]}; charset=utf-8"


@cache
def read_file(path: Path) -> bytes:
    """Return the content of a file, which is read once."""
    return path.read_bytes()
