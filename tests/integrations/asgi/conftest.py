"""Fixtures: an app, and clients of apps."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.support.asgi import Client
from tests.support.asgi_shop import Shop
from tests.support.bakery import state

__all__ = ["state"]


@pytest.fixture
def shop() -> Shop:
    return Shop()


@pytest.fixture
def client_of() -> Iterator[Callable[..., Client]]:
    """Yield a function that returns a client of an app."""
    with ExitStack() as stack:

        def client(app: Any, address: str | None = "127.0.0.1") -> Client:
            made = Client(app, address)
            stack.callback(made.close)
            return made

        yield client
