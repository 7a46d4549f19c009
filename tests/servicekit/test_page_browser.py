"""The live page in a browser, from a service with two workers."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
from playwright.sync_api import Browser, Locator, Page, expect

from tests.support.browser import chromium, needs_chromium, watched
from tests.support.shop_service import Service
from tests.support.waiting import until

pytestmark = [pytest.mark.quiet, needs_chromium]

MARKUP = "<img src=x onerror=alert(1)>"
#: milliseconds from what happens to when the page shows it
SOON = 1500
#: what a browser tells of an answer that never came, or that asks for a token: nothing that the page did wrong
FORGIVEN = re.compile(r"Failed to load resource: (net::ERR_|the server responded with a status of 401 )")
TOKEN = "correct-horse-battery"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def shop(config: Path, tmp_path: Path) -> Iterator[Service]:
    service = Service(tmp_path / "log", CB_CIRCUIT_BREAKER__TIMEOUT="2s", CB_SERVICES__SHOP__ANOTHER=MARKUP)
    try:
        service.wait_until_up()
        yield service
    finally:
        service.stop()


@pytest.fixture
def page(browser: Browser, shop: Service) -> Iterator[Page]:
    with opened(browser, shop) as page:
        yield page


@contextmanager
def opened(browser: Browser, shop: Service) -> Iterator[Page]:
    """Yield the page of a service."""
    with watched(browser, FORGIVEN) as page:
        page.goto(f"{shop.url}/dashboard")
        expect(card(page, "own-stock")).to_be_visible(timeout=SOON)
        yield page


def card(page: Page, name: str) -> Locator:
    return page.get_by_role("article", name=name, exact=True)


def state(page: Page, name: str = "own-stock") -> Locator:
    return card(page, name).locator(".state")


def simulate(shop: Service, *, healthy: bool) -> None:
    requests.post(f"{shop.url}/api/v1/simulate/failure", json={"is_healthy": healthy}, timeout=5)


def ask(shop: Service) -> int:
    return requests.get(f"{shop.url}/api/v1/stock/pen", timeout=5).status_code


def test_circuit_that_opens_and_recovers_is_followed_step_by_step(page: Page, shop: Service) -> None:
    assert ask(shop) == 200
    expect(state(page)).to_have_text("closed", timeout=SOON)
    expect(page.locator("#summary")).to_have_text("2 closed")
    expect(card(page, "own-stock").locator(".numbers")).to_contain_text("1 of 100 calls needed", timeout=SOON)
    expect(page.locator("#no-events")).to_be_visible()

    simulate(shop, healthy=False)
    for _ in range(4):
        ask(shop)
    expect(state(page)).to_have_text("open", timeout=SOON)
    mine = card(page, "own-stock")
    expect(mine).to_have_attribute("data-state", "OPEN")
    expect(mine.locator("use")).to_have_attribute("href", "#icon-open")
    expect(mine.locator(".wait")).to_have_text(re.compile(r"Next probe in [12] s|Next probe is due"))
    expect(mine.locator(".why")).to_contain_text("3 consecutive failures")
    expect(mine.locator(".failure")).to_have_text(re.compile(r"Last failure: SimulatedError: .+ \(worker \d+\)"))
    expect(mine).to_contain_text("rejected1")
    expect(page.get_by_role("article").first).to_have_attribute("aria-label", "own-stock")
    expect(page.get_by_role("status")).to_have_text("own-stock is open, was closed")
    expect(page).to_have_title("(1) corner-shop")
    expect(page.locator("#events tr")).to_have_count(1)
    expect(page.locator("#health")).to_contain_text("own-stock down")
    expect(page.locator("#simulators")).to_contain_text("fails always")

    simulate(shop, healthy=True)
    until(lambda: ask(shop) == 200)
    expect(state(page)).to_have_text("closed", timeout=SOON)
    expect(page).to_have_title("corner-shop")
    expect(page.locator("#events tr")).to_have_count(3)
    expect(page.locator("#events tr").first).to_contain_text("half-open → closed")


def test_markup_in_a_name_and_a_reason_is_shown_as_text(page: Page, shop: Service) -> None:
    reason = "<script>alert(2)</script>"
    card(page, MARKUP).get_by_role("button", name="Force open").click()
    expect(page.get_by_role("dialog")).to_contain_text(f"Force open: {MARKUP}?")
    page.get_by_label("Reason").fill(reason)
    page.get_by_label("Reason").press("Enter")
    expect(state(page, MARKUP)).to_have_text("forced-open", timeout=SOON)
    expect(card(page, MARKUP).get_by_role("heading")).to_have_text(MARKUP)
    expect(card(page, MARKUP).locator(".why")).to_contain_text(reason)
    expect(page.locator("#events")).to_contain_text(reason)
    assert page.locator("img, body script").count() == 0


def test_keyboard_alone_forces_a_circuit_open_and_resets_it(page: Page) -> None:
    def press_until(name: str) -> None:
        for _ in range(40):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.getAttribute('aria-label')") == name:
                break
        button = page.get_by_role("button", name=name, exact=True)
        expect(button).to_be_focused()
        assert button.evaluate("node => getComputedStyle(node).outlineStyle") == "solid"
        page.keyboard.press("Enter")
        expect(page.get_by_label("Reason")).to_be_focused()

    press_until("Force open: own-stock")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(page.get_by_role("button", name="Force open: own-stock")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.type("drill")
    page.keyboard.press("Enter")
    expect(state(page)).to_have_text("forced-open", timeout=SOON)
    expect(page.get_by_role("button", name="Force open: own-stock")).to_be_focused()
    press_until("Reset: own-stock")
    page.keyboard.type("over")
    page.keyboard.press("Enter")
    expect(state(page)).to_have_text("closed", timeout=SOON)


def test_simulated_failures_are_set_from_the_page(page: Page, shop: Service) -> None:
    form = page.get_by_role("form", name="simulate failures of shop")
    form.get_by_label("fails, %").fill("30")
    form.get_by_label("takes, ms").fill("5")
    form.get_by_role("button", name="Apply").click()
    expect(page.locator("#simulators")).to_contain_text("fails 30 %, takes 5 ms more", timeout=SOON)
    expect(form.get_by_label("fails, %")).to_have_value("30")
    now = requests.get(f"{shop.url}/api/v1/simulate/failure", timeout=5).json()
    assert now == {"failure_rate": 0.3, "is_healthy": True, "response_time_ms": 5}


def test_token_of_the_operators_unlocks_the_controls_until_the_page_is_left(
    browser: Browser, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CB_ADMIN_TOKEN", TOKEN)
    service = Service(tmp_path / "log")
    try:
        service.wait_until_up()
        with opened(browser, service) as page:
            force_open = page.get_by_role("button", name="Force open: own-stock")
            expect(force_open).to_be_hidden()
            page.get_by_role("button", name="Unlock controls").click()
            for wrong, answer in ((f"{TOKEN}x", "not the operators' token"), ("no spaces", "printable ASCII")):
                page.get_by_label("Operators' token").fill(wrong)
                page.get_by_role("button", name="Unlock", exact=True).click()
                expect(page.get_by_role("alert").filter(has_text=answer)).to_be_visible()
            page.get_by_label("Operators' token").fill(TOKEN)
            page.keyboard.press("Enter")
            force_open.click(timeout=SOON)
            page.keyboard.type("drill")
            page.keyboard.press("Enter")
            expect(state(page)).to_have_text("forced-open", timeout=SOON)
            form = page.get_by_role("form", name="simulate failures of shop")
            form.get_by_label("fails, %").fill("30")
            form.get_by_role("button", name="Apply").click()
            expect(page.locator("#simulators")).to_contain_text("fails 30 %", timeout=SOON)
            page.get_by_role("button", name="Lock controls").click()
            expect(force_open).to_be_hidden(timeout=SOON)
            expect(page.get_by_label("Operators' token")).to_have_value("")
            kept = page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])")
            assert TOKEN not in kept + page.content()
    finally:
        service.stop()
    assert TOKEN not in service.log.read_text()


def test_silence_of_the_service_is_said_and_nothing_stays_green(page: Page, shop: Service) -> None:
    banner = page.locator("#banner")
    expect(banner).to_be_hidden()
    workers = psutil.Process(shop.process.pid).children()
    for process in (shop.process, *workers):
        process.kill()
    expect(banner).to_be_visible(timeout=SOON)
    expect(banner).to_contain_text(re.compile(r"No response for [12] s"))
    expect(banner).to_contain_text("The page shows the state at")
    expect(state(page)).to_have_text("was closed")
    expect(page.locator("main")).to_have_css("filter", "grayscale(1)")
    expect(page.get_by_role("status")).to_contain_text("does not respond")
    expect(banner).to_contain_text(re.compile(r"No response for [34] s"), timeout=3000)


def test_service_that_hangs_is_silent_too_until_it_answers_again(page: Page, shop: Service) -> None:
    workers = psutil.Process(shop.process.pid).children()
    for worker in workers:
        worker.suspend()
    try:
        expect(page.locator("#banner")).to_be_visible(timeout=4500)
    finally:
        for worker in workers:
            worker.resume()
    expect(page.locator("#banner")).to_be_hidden(timeout=5000)
    expect(state(page)).to_have_text("closed")
    expect(page.get_by_role("status")).to_have_text("The service responds again")


def test_ledger_that_begins_anew_shows_no_negative_rate(page: Page, shop: Service) -> None:
    totals = {"requests": 500, "rejected": 0, "full": 0, "failures": 0}

    def answer(route: Any) -> None:
        body = route.fetch().json()
        body["breakers"]["own-stock"]["totals"] |= totals
        totals["requests"] = 3
        route.fulfill(json=body)

    page.route("**/dashboard/data", answer)
    page.reload()
    page.wait_for_timeout(3500)  # three answers: a rate needs two of the new ledger
    assert float(card(page, "own-stock").locator(".size text").text_content() or "") >= 0
    course = card(page, "own-stock").locator(".calls").get_attribute("d") or ""
    assert all(0 <= float(number) <= 240 for number in re.findall(r"[-\d.]+", course))
