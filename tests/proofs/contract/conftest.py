"""The three services, and their documents."""

from collections.abc import Iterator

import pytest

from tests.platform.conftest import Platform
from tests.proofs.contract.run import services


@pytest.fixture(scope="session")
def platform() -> Iterator[Platform]:
    with services() as platform:
        yield platform


@pytest.fixture(scope="module")
def open_platform() -> Iterator[Platform]:
    """Yield the services as the demo starts them: they want no token."""
    with services(tokens=False) as platform:
        yield platform
