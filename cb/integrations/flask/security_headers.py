"""Security headers of responses: no sniffing, scripts, frames, referrers, cross-origin use or caching."""

from flask import Response

#: defaults; a view may set other values, as the live page does
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def add_security_headers(response: Response) -> Response:
    """Add the headers that a response does not have yet, and return it."""
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    return response
