"""Redaction of log lines: passwords in URLs, credentials in headers, and known secrets."""

import json
import re
from collections.abc import Iterable, Iterator

from .settings import Settings
from .urls import passwords

#: length of the shortest secret that is searched for; shorter ones occur in ordinary words
_SHORTEST = 6
# The text remains valid JSON: no match extends past the end of a string, which is a quote or a space, and an escape
# sequence is replaced or kept as a whole.
_USERINFO = re.compile(r"://\S*@")  # greedy, for a password may hold any of `/:?#@`
_BARE = r"""(?:\\[^"nrt]|[^\s'"&\\])"""
_HEADER = re.compile(
    r"""((?:authorization|password|passwd|pwd)(?:\\"|')?(?:\s*[:=]\s*|,\s*(?=b?(?:\\"|'))|\s+(?=(?:basic|bearer|digest)\s)))"""
    r"""(?:(b?')(?:\\\\'|\\.|[^'"\\])*"""  # up to the closing quote: in a repr() other quotes are escaped
    r"""|(b?\\")(?:\\\\\\"|\\[^"]|[^"\\])*"""
    rf"""|(?:(?:basic|bearer|digest)\s+)?{_BARE}+)""",
    re.IGNORECASE,
)
# A shorter sequence of lower-case letters may be a word.
_SCHEME = re.compile(rf"\b((?i:bearer|basic))\s+(?=\S*[0-9A-Z=]|\S{{16}}){_BARE}{{8,}}")


class Redaction:
    """Redacts secrets in JSON texts."""

    def __init__(self) -> None:
        #: in their JSON form; the longest first, as one may start with another
        self._secrets: list[str] = []

    def hide(self, secrets: Iterable[str]) -> None:
        """Redact these secrets too."""
        forms = {json.dumps(form)[1:-1] for secret in secrets if len(secret) >= _SHORTEST for form in _forms(secret)}
        self._secrets = sorted(forms.union(self._secrets), key=len, reverse=True)

    def __call__(self, text: str) -> str:
        """Return a line with its secrets replaced by `***`."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        text = _USERINFO.sub("://***@", text)
        return _SCHEME.sub(r"\1 ***", _HEADER.sub(r"\1\2\3***", text))


def _forms(secret: str) -> Iterator[str]:
    """Yield a secret itself and its forms in the repr() of a text, for both kinds of quotes."""
    shown = repr(secret)[1:-1]
    yield from (secret, shown, shown.replace("'", r"\'"))


def known_secrets(settings: Settings) -> Iterator[str]:
    """Yield the secrets in the settings of a service, as written there and decoded."""
    yield from filter(None, (settings.admin_token, settings.service_token))
    for url in (settings.fleet_url, settings.state_url, *settings.service.values()):
        if isinstance(url, str):
            yield from passwords(url)
