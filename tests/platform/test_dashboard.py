"""The gateway's live page in a browser while market data fails and recovers."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.platform.conftest import Platform
from tests.support.browser import chromium, needs_chromium, watched
from tests.support.waiting import until

pytestmark = needs_chromium
#: milliseconds from an event until the page shows it
SOON = 5000


@pytest.fixture
def page(platform: Platform) -> Iterator[Page]:
    with chromium() as browser, watched(browser) as page:
        page.goto(f"http://127.0.0.1:{platform.ports['gateway']}/dashboard")
        yield page


def fact(page: Page, name: str) -> Locator:
    return page.locator("#trades dl > div", has_text=name).locator("dd")


def test_trades_breakers_and_health_are_shown_from_green_to_open_to_recovered(platform: Platform, page: Page) -> None:
    market_data = page.get_by_role("article", name="market-data", exact=True)
    expect(page.locator("#service")).to_have_text("trading-gateway", timeout=SOON)
    expect(page.get_by_role("article")).to_have_count(6)
    expect(page.locator("#summary")).to_have_text("6 closed")
    entries = platform.get("gateway", "/dashboard/data").json()["trades"]["audit"]["entries"]
    assert platform.trade().status_code == 201
    until(platform.all_told, "audit has heard of it")
    expect(fact(page, "oldest pending")).to_have_text("\u2013")
    expect(fact(page, "audit behind")).to_have_text("0")
    expect(fact(page, "audit head")).to_have_text(re.compile(rf"{entries + 3} · [0-9a-f]{{8}}"), timeout=SOON)

    platform.simulate("market-data", is_healthy=False)
    until(lambda: platform.trade().json().get("code") == "circuit-open", "the circuit opens")
    expect(market_data.locator(".state")).to_have_text(re.compile("open"), timeout=SOON)  # half-open too
    expect(market_data).to_contain_text("Its health check failed", timeout=SOON)
    expect(page.get_by_role("article").first).to_have_attribute("aria-label", "market-data")
    expect(page.locator("#health")).to_contain_text("market-data down")
    expect(page.locator("#events tr").first).to_contain_text("market-data")

    platform.simulate("market-data")
    expect(market_data.locator(".state")).to_have_text("closed", timeout=4 * SOON)  # by health checks alone
    expect(page.locator("#events tr").first).to_contain_text("half-open → closed")
    expect(page.locator("#summary")).to_have_text("6 closed")
    assert platform.trade().status_code == 201
