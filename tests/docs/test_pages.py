"""Execution of every block of every page in docs/."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import Reader, blocks
from tests.support import ROOT
from tests.support.misbehaving import Server, answer
from tests.support.redis_servers import BINARIES, free_port
from tests.support.redis_servers import Server as RedisServer

#: pages whose blocks need more than an empty directory, and the test that executes them
ELSEWHERE = {
    "POSTMAN_GUIDE.md": "platform/test_postman.py",
    "api.md": "servicekit/test_openapi.py",
    "deployment.md": "docs/test_deployment.py",
    "health.md": "docs/test_health.py",
    "http.md": "docs/test_http_page.py",
    "integrations.md": "docs/test_integrations.py",
    "integrations/aiohttp.md": "docs/test_client_pages.py",
    "integrations/fastapi.md": "docs/test_fastapi_page.py",
    "integrations/celery.md": "docs/test_celery_page.py",
    "integrations/django.md": "docs/test_django_page.py",
    "integrations/httpx.md": "docs/test_client_pages.py",
    "integrations/redis.md": "docs/test_data_pages.py",
    "integrations/sqlalchemy.md": "docs/test_data_pages.py",
    "night.md": "docs/test_night.py",
    "operations.md": "platform/test_operations.py",
    "platform.md": "docs/test_platform.py",
    "recipes.md": "docs/test_recipes.py",
    "resilience.md": "docs/test_resilience_page.py",
    "tracing.md": "docs/test_tracing_page.py",
    "tutorial.md": "docs/test_tutorial.py",
}
DOCS = ROOT / "docs"
PAGES = {page.relative_to(DOCS).as_posix(): page for page in sorted(DOCS.rglob("*.md"))}
FOLLOWED = [name for name, page in PAGES.items() if name not in ELSEWHERE and blocks(page)]


@pytest.fixture
def reader(server: Server, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Reader]:
    """Yield a reader to whom every dependency of a page exists: it answers each request with a price."""
    server.act = answer(200, '{"symbol": "AAPL", "price": "150.10"}')
    port = free_port()
    ours = {"https://api.example.com": server.url, "http://127.0.0.1:8082": server.url}
    ours |= {":8000": f":{port}", "--port 8000": f"--port {port}"}
    text = PAGES[request.getfixturevalue("name")].read_text()
    redis = RedisServer(BINARIES["valkey"], tmp_path / "redis") if "redis://127.0.0.1:6379" in text else None
    try:
        if redis:
            ours["redis://127.0.0.1:6379/0"] = redis.__enter__().url
        reader = Reader(tmp_path, ours)
        yield reader
        reader.close()
    finally:
        if redis:
            redis.__exit__(None, None, None)


@pytest.mark.parametrize("name", FOLLOWED)
def test_page_works_as_it_stands(name: str, reader: Reader) -> None:
    printed = ""
    for block in blocks(PAGES[name]):
        if block.title == "output":
            assert block.text == printed
        else:
            printed = reader.follow(block)


def test_pages_that_are_followed_elsewhere_are_named_there() -> None:
    for page, test in ELSEWHERE.items():
        assert re.search(rf"\b{page}\b", (ROOT / "tests" / test).read_text()), page
