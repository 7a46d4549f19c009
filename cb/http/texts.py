"""Parts of the texts of errors: origins, statuses, times, and the causes of an error."""

import os
import re
import ssl
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

#: reasons of statuses that `http.HTTPStatus` does not know, most of them of Cloudflare
_PHRASES = {
    509: "Bandwidth Limit Exceeded",
    520: "Web Server Returned an Unknown Error",
    521: "Web Server Is Down",
    522: "Connection Timed Out",
    523: "Origin Is Unreachable",
    524: "A Timeout Occurred",
    525: "SSL Handshake Failed",
    526: "Invalid SSL Certificate",
    529: "Site Is Overloaded",
    530: "Origin Error",
}
#: user and password in a URL
_USER = re.compile(r"//[^/]*@")
#: longest text of another library that a message quotes, in characters
_QUOTED = 200


def shown_origin(url: str) -> str:
    """Return scheme, host and port of a URL, for messages."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "an invalid URL"
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}" if parts.scheme else host


def redacted(url: str) -> str:
    """Return a URL without user, password, query and fragment, for messages. It may be invalid."""
    return _USER.sub("//", re.split("[?#]", url, maxsplit=1)[0], count=1)


def status_text(status: int) -> str:
    """Return a status in words, as in `HTTP 503 Service Unavailable`."""
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = _PHRASES.get(status, "")
    return f"HTTP {status} {phrase}".rstrip()


def within_text(*limits: float | None) -> str:
    """Return the shortest of some time limits, as in ` within 5 s`; nothing if there is none."""
    known = [each for each in limits if each is not None]
    return f" within {seconds_text(min(known))}" if known else ""


def seconds_text(seconds: float) -> str:
    """Return a time in seconds, as in `5 s`."""
    return f"{seconds:.0f} s" if seconds >= 100 else f"{seconds:.3g} s"


def too_large_text(limit: int, size: int | None, *, encoded: bool) -> str:
    """Return the reason of a body that is longer than the limit.

    Args:
        limit: Largest body, in bytes.
        size: Size of the body in bytes; None if it is not known.
        encoded: True if the body is compressed.
    """
    shown = f"a body of {size:,} bytes exceeds" if size else "the body exceeds"
    measured = " after decompression" if encoded else ""
    return f"{shown} the limit of {limit:,} bytes{measured}; raise max_body_bytes to receive it"


def plain(error: BaseException) -> str:
    """Return the text of an error of the system without its number."""
    if isinstance(error, OSError) and error.errno is not None and not isinstance(error, ssl.SSLError):
        return error.strerror or os.strerror(error.errno)
    return str(error) or type(error).__name__


def quoted(text: str) -> str:
    """Return the first line of a text, at most 200 characters of it."""
    return next(iter(text.splitlines()), "")[:_QUOTED]


def error_chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and those it was made of, the outer ones first.

    Its context is excluded: a request may be sent while another exception is being handled.
    """
    pending, seen = [error], {id(error)}
    while pending:
        each = pending.pop(0)
        yield each
        inside = (getattr(each, "reason", None), getattr(each, "original_error", None), each.__cause__)
        for inner in (*each.args, *inside):
            if isinstance(inner, BaseException) and id(inner) not in seen:
                seen.add(id(inner))
                pending.append(inner)


def first(errors: list[BaseException], *kinds: type[BaseException]) -> Any:
    """Return the first error of some kinds; None if there is none."""
    return next((each for each in errors if isinstance(each, kinds)), None)


def tls_text(errors: list[BaseException]) -> str | None:
    """Return the reason if one of the errors is of TLS; None if none is."""
    # That of aiohttp, which wraps it, is of its class too, and lacks its attributes.
    found = (each for each in errors if isinstance(each, ssl.SSLCertVerificationError) and hasattr(each, "verify_code"))
    if (verification := next(found, None)) is not None:
        return f"the certificate is not trusted: {quoted(verification.verify_message or plain(verification))}"
    tls = next((each for each in errors if isinstance(each, ssl.SSLError) and hasattr(each, "reason")), None)
    if tls is not None:
        return f"TLS failed ({quoted((tls.reason or plain(tls)).replace('_', ' ').lower())})"
    return None
