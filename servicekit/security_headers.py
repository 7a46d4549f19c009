"""What every answer tells browsers: to guess nothing, run nothing, frame nothing, share nothing and keep nothing."""

from flask import Flask, Response

#: a view may set another value of its own, as the live page does
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def init_app(app: Flask) -> None:
    """Give them to every answer of an app."""
    app.after_request(add_security_headers)


def add_security_headers(response: Response) -> Response:
    """Return an answer with them."""
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    return response
