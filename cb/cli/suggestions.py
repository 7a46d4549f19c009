"""Suggestions for a command or a name that does not exist."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

#: words of earlier versions and of other tools, and the commands that do it here
_SYNONYMS = {
    "open": "force-open",
    "trip": "force-open",
    "close": "reset",
    "enable": "reset",
    "shadow": "metrics-only",
    "list": "status",
    "ls": "status",
    "show": "status",
    "why": "explain",
    "log": "events",
    "history": "events",
    "top": "watch",
    "set": "configure",
    "remove": "forget",
    "delete": "forget",
    "rm": "forget",
}
#: names that an error lists
_SHOWN = 12


def command(word: str, commands: Sequence[str]) -> str | None:
    """Return the command that a mistyped or outdated word stands for, None if none is like it."""
    plain = word.lower().replace("_", "-")
    found = get_close_matches(plain, [*commands, *_SYNONYMS], n=1, cutoff=0.6)
    return _SYNONYMS.get(found[0], found[0]) if found else None


def listed(word: str, names: Iterable[str]) -> str:
    """Return the end of an error about an unknown name: the one that is like it, and those that exist."""
    known = sorted(names)
    rest = f" and {len(known) - _SHOWN} more" if len(known) > _SHOWN else ""
    like = get_close_matches(word, known, n=1)
    return (f"did you mean {like[0]!r}? " if like else "") + f"there are: {', '.join(known[:_SHOWN])}{rest}"
