"""Texts of errors: they name the request by method and host."""

from urllib.parse import urlsplit

import requests


def target(request: requests.PreparedRequest | None) -> str:
    """Return method and origin of a request, as in `GET https://example.com`: no path, no query and no password."""
    if request is None:
        return "request"
    return f"{request.method or 'GET'} {shown_origin(request.url or '')}"


def shown_origin(url: str) -> str:
    """Return scheme, host and port of a URL, for messages."""
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
    except ValueError:
        return "an invalid URL"
    return f"{parts.scheme or 'http'}://{host}"
