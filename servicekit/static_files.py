"""The files of a page, for browsers that run nothing else."""

from collections.abc import Iterable
from functools import cache
from pathlib import Path

from flask import Response, request
from marshmallow.fields import String
from werkzeug.exceptions import NotFound

_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
#: nothing inline, nothing from elsewhere, no frame around it
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
#: what these files can be
TYPES = tuple(_TYPES.values())


class Files:
    """Those files of a directory that have been named."""

    def __init__(self, directory: Path, names: Iterable[str]) -> None:
        self._directory = directory
        self._names = tuple(names)
        #: the name of one of them, in a path; another is not found
        self.field = String(metadata={"enum": list(self._names)})

    def send(self, name: str) -> Response:
        """Return a file, which browsers keep and ask for again by its hash. Raises NotFound."""
        if name not in self._names:
            raise NotFound
        path = self._directory / name
        response = Response(_read(path), content_type=f"{_TYPES[path.suffix]}; charset=utf-8")
        response.headers["Content-Security-Policy"] = _POLICY
        response.headers["Cache-Control"] = "no-cache"
        response.add_etag()
        response.make_conditional(request)
        return response


@cache
def _read(path: Path) -> bytes:
    return path.read_bytes()
