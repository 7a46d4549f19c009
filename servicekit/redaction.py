"""What must not be in a log line is taken out of it: passwords in URLs, credentials in headers, known secrets."""

import json
import re
from collections.abc import Iterable, Iterator

from .settings import Settings
from .urls import passwords

#: characters; what is shorter would tear holes into words that only look like it
_SHORTEST = 6
# A JSON text stays one: no match reaches beyond the end of a string in it, where there is a quote or a blank, and
# what is escaped in it goes or stays as a whole.
_USERINFO = re.compile(r"://\S*@")  # greedy, for a password may hold any of `/:?#@`
_BARE = r"""(?:\\[^"nrt]|[^\s'"&\\])"""
_HEADER = re.compile(
    r"""((?:authorization|password|passwd|pwd)(?:\\"|')?(?:\s*[:=]\s*|,\s*(?=b?(?:\\"|'))|\s+(?=(?:basic|bearer|digest)\s)))"""
    r"""(?:(b?')(?:\\\\'|\\.|[^'"\\])*"""  # to the quote that ends it: in a repr() another one has a backslash
    r"""|(b?\\")(?:\\\\\\"|\\[^"]|[^"\\])*"""
    rf"""|(?:(?:basic|bearer|digest)\s+)?{_BARE}+)""",
    re.IGNORECASE,
)
# With small letters only, what is shorter may be a word.
_SCHEME = re.compile(rf"\b((?i:bearer|basic))\s+(?=\S*[0-9A-Z=]|\S{{16}}){_BARE}{{8,}}")


class Redaction:
    """Takes secrets out of JSON texts."""

    def __init__(self) -> None:
        #: as they stand in a JSON text; the longest first, for one may begin with another
        self._secrets: list[str] = []

    def hide(self, secrets: Iterable[str]) -> None:
        """Take these out too, from now on."""
        forms = {json.dumps(form)[1:-1] for secret in secrets if len(secret) >= _SHORTEST for form in _forms(secret)}
        self._secrets = sorted(forms.union(self._secrets), key=len, reverse=True)

    def __call__(self, text: str) -> str:
        """Return a line without what is secret."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        text = _USERINFO.sub("://***@", text)
        return _SCHEME.sub(r"\1 ***", _HEADER.sub(r"\1\2\3***", text))


def _forms(secret: str) -> Iterator[str]:
    """Yield a secret as it is, and as it stands in the repr() of a text, with either quote around it."""
    shown = repr(secret)[1:-1]
    yield from (secret, shown, shown.replace("'", r"\'"))


def known_secrets(settings: Settings) -> Iterator[str]:
    """Yield the secrets that a service knows, each as it stands in its settings and as it is meant."""
    yield from filter(None, (settings.admin_token, settings.service_token))
    for url in (settings.fleet_url, settings.state_url, *settings.service.values()):
        if isinstance(url, str):
            yield from passwords(url)
