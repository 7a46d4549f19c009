"""Static files with an ETag and a Content-Security-Policy that permits only files of this app."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path

from flask import Response, request
from werkzeug.exceptions import NotFound

_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
#: media types of the files
MEDIA_TYPES = tuple(_TYPES.values())
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)


def send_file(files: Mapping[str, Path], name: str) -> Response:
    """Return one of these files by name. Browsers keep it and revalidate it by its ETag. Raises NotFound."""
    if name not in files:
        raise NotFound
    return send_content(_read(files[name]), files[name].suffix)


def send_content(content: bytes, suffix: str) -> Response:
    """Return content of the type that a file name suffix stands for, as `send_file` does."""
    response = with_policy(content, suffix)
    response.headers["Cache-Control"] = "no-cache"
    response.add_etag()
    response.make_conditional(request)
    return response


def with_policy(content: bytes, suffix: str) -> Response:
    """Return content of the type that a file name suffix stands for, with the policy and without an ETag."""
    response = Response(content, content_type=f"{_TYPES[suffix]}; charset=utf-8")
    response.headers["Content-Security-Policy"] = _POLICY
    return response


@cache
def _read(path: Path) -> bytes:
    return path.read_bytes()
