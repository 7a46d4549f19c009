"""What must not be in a log line is taken out of it: passwords in URLs, credentials in headers, known secrets."""

import json
import re
from collections.abc import Iterable, Iterator

from .settings import Settings
from .urls import passwords

#: characters; what is shorter would tear holes into words that only look like it
_SHORTEST = 6
# A JSON text stays one: no match reaches beyond the end of a string in it, where there is a quote or a blank.
_USERINFO = re.compile(r"://\S*@")  # greedy, for a password may hold any of `/:?#@`
_HEADER = re.compile(
    r"""((?:authorization|password|passwd)(?:\\"|')?\s*[:=]\s*(?:b?\\"|b?')?)(?:(?:basic|bearer|digest)\s+)?[^\s'"\\,;&)}\]]+""",
    re.IGNORECASE,
)
_SCHEME = re.compile(r"\b(Bearer|Basic)\s+(?=\S*[0-9A-Z=])[A-Za-z0-9._~+/=-]{8,}")


class Redaction:
    """Takes secrets out of JSON texts."""

    def __init__(self) -> None:
        self._secrets: set[str] = set()

    def hide(self, secrets: Iterable[str]) -> None:
        """Take these out too, from now on."""
        self._secrets |= {json.dumps(secret)[1:-1] for secret in secrets if len(secret) >= _SHORTEST}

    def __call__(self, text: str) -> str:
        """Return a line without what is secret."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        text = _USERINFO.sub("://***@", text)
        return _SCHEME.sub(r"\1 ***", _HEADER.sub(r"\1***", text))


def known_secrets(settings: Settings) -> Iterator[str]:
    """Yield the secrets that a service knows, each as it stands in its settings and as it is meant."""
    yield from filter(None, (settings.admin_token, settings.service_token))
    for url in (settings.fleet_url, settings.state_url, *settings.service.values()):
        if isinstance(url, str):
            yield from passwords(url)
