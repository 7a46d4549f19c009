"""A configured Django, and breakers that belong to one test."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import django
import pytest
from django.conf import settings
from django.db import connections
from django.test import AsyncClient, Client, override_settings

from cb import Ledger
from cb.integrations.django import breakers

HERE = "tests.integrations.django"
#: headers of a request of this host
LOCAL = {"HTTP_HOST": "127.0.0.1", "SERVER_PROTOCOL": "HTTP/1.1", "REMOTE_ADDR": "127.0.0.1"}


@pytest.fixture(scope="session")
def configured(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Configure Django, once in a process."""
    file = tmp_path_factory.mktemp("django") / "x.sqlite3"
    sqlite = {"ENGINE": "cb.integrations.django.db.sqlite3", "NAME": str(file)}
    settings.configure(
        ALLOWED_HOSTS=["*"],
        DATABASES={
            "default": sqlite,
            "named": {**sqlite, "OPTIONS": {"breaker": "files", "timeout": 0.1}},
            "missing": {**sqlite, "NAME": "/nonexistent/x.sqlite3"},
        },
        MIDDLEWARE=["cb.integrations.django.CircuitBreakerMiddleware", f"{HERE}.urls.Refusing"],
        ROOT_URLCONF=f"{HERE}.urls",
        SECRET_KEY="of the tests",
        USE_TZ=True,
    )
    django.setup()


@pytest.fixture
def options() -> dict[str, Any]:
    """Return the value of the setting."""
    return {"ledger": Ledger.in_memory(), "defaults": {"failure_threshold": 3, "timeout": "30s"}}


@pytest.fixture(autouse=True)
def project(configured: None, options: dict[str, Any]) -> Iterator[None]:
    """Have breakers of this test alone."""
    with override_settings(CIRCUIT_BREAKERS=options):
        yield
    connections.close_all()


@pytest.fixture
def client() -> Client:
    return Client(raise_request_exception=False, **LOCAL)


def ask_async(path: str) -> Any:
    """Send a request as a server for ASGI does."""
    return asyncio.run(AsyncClient(raise_request_exception=False).get(path, headers={"host": "127.0.0.1"}))


def force_open(name: str) -> None:
    breakers.get(name).control.force_open(reason="a test")


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
