"""The documents of the three services, as they serve them and as they are committed."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory

from flask import Flask

from tests.support import ROOT

#: packages of the services
SERVICES = ("gateway", "portfolio", "marketdata")


_TOKENS = {
    "CB_ADMIN_TOKEN": "token-of-the-operators",
    "CB_SERVICE_TOKEN": "token-of-the-services",
    "CB_API_KEYS__alice": f"sha256:{'0' * 64}",
}


@contextmanager
def app(package: str, tokens: Mapping[str, str] = _TOKENS) -> Iterator[Flask]:
    """Yield a service that does nothing unless asked, with its state and its database in a directory of their own.

    It asks for all tokens and keys that there are, as one does that others reach, unless told otherwise.
    """
    with TemporaryDirectory() as directory:
        settings = {
            **tokens,
            "CB_CONFIG": str(ROOT / "config" / "config.yaml"),
            "CB_STATE_DIR": f"{directory}/state",
            "CB_STATE__URL": "memory://",
            "CB_SERVICES__GATEWAY__DATABASE": f"sqlite:///{directory}/gateway.db",
            "CB_SERVICES__PORTFOLIO__DATABASE": f"sqlite:///{directory}/portfolio.db",
        }
        before = dict(os.environ)
        for name in [name for name in os.environ if name.startswith("CB_")]:
            del os.environ[name]
        os.environ.update(settings)
        try:
            made: Flask = import_module(package).create_app()
            for duty in made.extensions.get("background", ()):
                duty.close()
            if "monitor" in made.extensions:
                made.extensions["monitor"].close()
            yield made
        finally:
            os.environ.clear()
            os.environ.update(before)


def committed(package: str) -> Path:
    """Return the file that has the document of a service."""
    return ROOT / "docs" / "openapi" / f"{package}.json"


def write() -> None:
    """Write the documents of all services."""
    for package in SERVICES:
        with app(package) as service:
            committed(package).write_text(service.extensions["openapi"].text)
