"""Clients that place orders, retry without a response, and record all responses."""

import random
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from itertools import count
from typing import Any

import requests

USERS = [f"user{number}" for number in range(6)]
PRICES = {"AAPL": Decimal(150), "JPM": Decimal(145), "TSLA": Decimal(250)}
FINAL = {"FILLED", "REJECTED", "CANCELLED"}
#: attempts of a client per order, and its timeout
TRIES, PATIENCE = 8, 6.0
_CENT = Decimal("0.0001")


@dataclass(frozen=True, slots=True)
class Order:
    """An order. Prices of a user's orders in a symbol are unique, so that a stored trade identifies its order."""

    user_id: str
    symbol: str
    quantity: int
    side: str
    price: Decimal


@dataclass(frozen=True, slots=True)
class Answer:
    """A response to a client."""

    order: Order
    key: str | None
    #: HTTP status; None: the connection ended without one
    http: int | None
    trade_id: str | None
    #: trade id, if there is one
    status: str | None
    code: str | None
    replayed: bool
    #: times of the request and of the response
    asked: float
    answered: float


class Clients:
    """Threads that trade until they are stopped."""

    def __init__(self, port: int, seed: int, threads: int = 8) -> None:
        #: all responses of all clients
        self.told: list[Answer] = []
        self._url = f"http://127.0.0.1:{port}/api/v1/trades"
        self._stop = threading.Event()
        self._serials = {(user, symbol): count(1) for user in USERS for symbol in PRICES}
        self._threads = [
            threading.Thread(target=self._trade, args=(random.Random(f"{seed} {number}"), number))
            for number in range(threads)
        ]
        self._local = threading.local()

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop the threads and wait for their end."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def look_again(self, most: int = 100) -> None:
        """Read pending trades again, and retry settled orders."""
        last = {each.trade_id: each for each in self.told if each.trade_id and each.status != "REFUSED"}
        for trade_id, answer in last.items():
            if answer.status not in FINAL:
                self._ask(answer.order, answer.key, trade_id)
        settled = [each for each in last.values() if each.key and each.status in FINAL]
        for answer in settled[:: max(len(settled) // most, 1)]:
            self._ask(answer.order, answer.key)

    def _trade(self, chance: random.Random, client: int) -> None:
        for number in count():
            if self._stop.wait(chance.uniform(0.0, 0.08)):
                return
            order = self._order(chance)
            key = f"{client}-{number}" if chance.random() < 0.9 else None
            times = 2 if key and chance.random() < 0.2 else 1
            doubles = [threading.Thread(target=self._place, args=(order, key)) for _ in range(times - 1)]
            for double in doubles:
                double.start()
            self._place(order, key)
            for double in doubles:
                double.join()

    def _order(self, chance: random.Random) -> Order:
        user, symbol = chance.choice(USERS), chance.choice(list(PRICES))
        price = PRICES[symbol] + next(self._serials[user, symbol]) * _CENT
        if chance.random() < 0.06:  # beyond the band
            price *= 2
        large = chance.random() < 0.08  # more than any account can pay
        quantity = 200 if large else chance.randint(1, 12)
        side = "BUY" if large or chance.random() < 0.6 else "SELL"
        return Order(user, symbol, quantity, side, price)

    def _place(self, order: Order, key: str | None) -> None:
        """Place an order and retry it until its outcome is known, or for a while."""
        for attempt in range(TRIES):
            answer = self._ask(order, key)
            if key is None or answer.status in FINAL or (answer.http == 409 and "idempotency" not in str(answer.code)):
                return
            if self._stop.wait(0.05 * 2 ** min(attempt, 3)):
                return
            if answer.trade_id and attempt % 2:
                self._ask(order, key, answer.trade_id)

    def _ask(self, order: Order, key: str | None, trade_id: str | None = None) -> Answer:
        """Place an order or read a trade, and record the response."""
        asked = time.monotonic()
        try:
            response = self._get(trade_id) if trade_id else self._post(order, key)
            http, body = response.status_code, response.json()
            replayed = response.headers.get("Idempotency-Replayed") == "true"
        except requests.RequestException:
            http, body, replayed = None, {}, False
        answer = Answer(
            order=order,
            key=key,
            http=http,
            trade_id=trade_id or body.get("tradeId"),
            status=body.get("tradeStatus") or (body.get("status") if isinstance(body.get("status"), str) else None),
            code=body.get("code"),
            replayed=replayed,
            asked=asked,
            answered=time.monotonic(),
        )
        self.told.append(answer)
        return answer

    def _post(self, order: Order, key: str | None) -> requests.Response:
        body = {
            "userId": order.user_id,
            "symbol": order.symbol,
            "quantity": order.quantity,
            "orderType": order.side,
            "price": str(order.price),
        }
        headers = {"Idempotency-Key": key} if key else {}
        return self._session.post(self._url, json=body, headers=headers, timeout=PATIENCE)

    def _get(self, trade_id: str) -> requests.Response:
        return self._session.get(f"{self._url}/{trade_id}", timeout=PATIENCE)

    @property
    def _session(self) -> requests.Session:
        if not hasattr(self._local, "session"):
            self._local.session = requests.Session()
            self._local.session.trust_env = False
        session: requests.Session = self._local.session
        return session


def by_order(told: list[Answer]) -> Iterator[tuple[Order, list[Answer]]]:
    """Yield each order with its responses."""
    found: dict[Order, list[Answer]] = {}
    for answer in told:
        found.setdefault(answer.order, []).append(answer)
    yield from found.items()


def problem(answer: Answer) -> Any:
    """Return the defect of a single response, None if there is none."""
    allowed = {None, 200, 201, 202, 409, 503}
    return None if answer.http in allowed else f"{answer.http} {answer.code} for {answer.order}"
