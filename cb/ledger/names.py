"""Limits for the names of breakers, for reasons and for authors."""

from cb.errors import ConfigError

from . import layout as at

#: bytes of a breaker's name
LONGEST_NAME = at.NAME_CELLS * 8
#: characters of a reason, and of an author
LONGEST_REASON, LONGEST_AUTHOR = 200, 160
_DIGEST = 32


def check_name(name: str) -> None:
    """Raise ConfigError for an invalid name of a breaker."""
    if not isinstance(name, str) or not name.isprintable() or not 0 < len(name.encode()) <= LONGEST_NAME:
        raise ConfigError("name", f"be 1 to {LONGEST_NAME} printable bytes", name)


def fitting_name(text: str) -> str:
    """Return a valid name for a breaker: the text, or its printable part, truncated, and a digest."""
    if text and text.isprintable() and len(text.encode()) <= LONGEST_NAME:
        return text
    shown = "".join(each if each.isprintable() else "?" for each in text[:LONGEST_NAME])
    from hashlib import sha256  # not above: few names need a digest

    digest = sha256(text.encode(errors="surrogatepass")).hexdigest()[:_DIGEST]
    return f"{at.cut_text(shown, LONGEST_NAME - _DIGEST - 1)}~{digest}"


def check_reason(reason: str) -> None:
    """Raise ConfigError for a reason that does not fit the history."""
    _check_line("reason", reason, LONGEST_REASON)


def check_author(author: str) -> None:
    """Raise ConfigError for an author whose name leaves no room for the reason."""
    _check_line("author", author, LONGEST_AUTHOR)


def _check_line(field: str, text: str, longest: int) -> None:
    if not isinstance(text, str) or not text.strip() or len(text) > longest:
        raise ConfigError(field, f"be text of 1 to {longest} characters", text)
