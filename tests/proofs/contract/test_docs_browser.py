"""The page for people, in a browser."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.platform.conftest import Platform
from tests.support.browser import chromium, needs_chromium, watched

pytestmark = needs_chromium


@pytest.fixture
def page() -> Iterator[Page]:
    with chromium() as browser, watched(browser) as page:
        yield page


def test_docs_show_each_operation_and_what_it_answers(platform: Platform, page: Page) -> None:
    asked: list[str] = []
    failed: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("requestfailed", lambda request: failed.append(request.url))
    url = f"http://127.0.0.1:{platform.ports['gateway']}"
    paths = platform.get("gateway", "/openapi.json").json()["paths"]

    page.goto(f"{url}/docs")
    expect(page.locator(".opblock")).to_have_count(sum(len(path) for path in paths.values()), timeout=15_000)
    expect(page).to_have_title("API: trading-gateway")
    place = page.locator("#operations-trades-placeTrade")
    place.get_by_role("button").first.click()
    expect(place).to_contain_text("Idempotency-Key")
    expect(place).to_contain_text("The outcome is not known yet")
    expect(place.locator("tr[data-code='503']")).to_contain_text("circuit-open")

    place.get_by_role("button", name="Try it out").click()
    place.get_by_role("button", name="Execute").click()
    expect(place.locator(".live-responses-table")).to_contain_text('"tradeId"', timeout=10_000)

    assert failed == []
    assert all(each.startswith((f"{url}/", "data:", "blob:")) for each in asked)
