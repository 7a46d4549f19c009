"""Pictures of the live page for the README: `make screenshots`. The platform runs for a minute, with some trouble."""

import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import requests

from tests.support import ROOT
from tests.support.browser import chromium
from tests.support.demo_platform import Platform

SECONDS = 100
ORDER = {"userId": "user123", "symbol": "AAPL", "quantity": 1, "price": "150.00"}


def main() -> None:
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        platform = Platform(Path(directory) / "run")
        platform.variables["CB_CIRCUIT_BREAKER__TIMEOUT"] = "25s"
        stack.callback(platform.launch, "stop")
        code, printed = platform.launch("start")
        assert code == 0, printed
        gateway = f"http://127.0.0.1:{platform.ports['GATEWAY']}"
        browser = stack.enter_context(chromium())
        pages = {}
        for scheme in ("light", "dark"):
            pages[scheme] = browser.new_page(color_scheme=scheme, viewport={"width": 1440, "height": 1110})
            pages[scheme].goto(f"{gateway}/dashboard")

        trouble = [
            (0.15, "audit", {"is_healthy": False}),
            (0.2, "audit", {}),
            (0.3, "notification", {"failure_rate": 0.35}),
            (0.5, "risk", {"failure_rate": 0.12, "response_time_ms": 30}),
            (0.8, "audit", {"is_healthy": False}),
        ]
        begun, sent = time.monotonic(), 0
        while (done := (time.monotonic() - begun) / SECONDS) < 1:
            while trouble and done > trouble[0][0]:
                _, name, simulation = trouble.pop(0)
                requests.post(f"{gateway}/api/v1/{name}/simulate/failure", json=simulation, timeout=5)
            for _ in range(1 + sent // 40 % 4):
                order = ORDER | {"orderType": "BUY" if sent % 2 else "SELL"}
                requests.post(f"{gateway}/api/v1/trades", json=order, timeout=10)
                sent += 1
            pages["light"].wait_for_timeout(120)
        for scheme, page in pages.items():
            page.screenshot(path=ROOT / "docs" / "images" / f"dashboard-{scheme}.png")


if __name__ == "__main__":
    main()
