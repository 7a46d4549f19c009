"""A simulated market. Prices are a pure function of symbol, time and seed, so all workers return the same."""

import hashlib
import math
from dataclasses import dataclass
from decimal import Decimal

BASE_PRICES = {
    "AAPL": Decimal("150.00"),
    "AMZN": Decimal("135.00"),
    "GOOGL": Decimal("140.00"),
    "JPM": Decimal("145.00"),
    "META": Decimal("300.00"),
    "MSFT": Decimal("330.00"),
    "NFLX": Decimal("420.00"),
    "NVDA": Decimal("450.00"),
    "TSLA": Decimal("250.00"),
    "V": Decimal("240.00"),
}
#: maximum distance of a price from its base, as a share of it
BAND = Decimal("0.01")
# Periods of the oscillations in seconds: the long ones make a trend, the short ones visible movement.
_PERIODS = (7.0, 61.0, 599.0, 3_607.0)
_CENT = Decimal("0.01")


@dataclass(frozen=True, slots=True)
class Quote:
    """The price of a share at one moment."""

    symbol: str
    price: Decimal
    #: seconds since the epoch
    time: float


class Market:
    """The market of a seed."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def quote(self, symbol: str, time: float) -> Quote | None:
        """Return the price of a symbol at a time, None if it is not traded."""
        base = BASE_PRICES.get(symbol)
        if base is None:
            return None
        swing = sum(math.sin(math.tau * (time / period + _phase(self._seed, symbol, period))) for period in _PERIODS)
        share = Decimal(swing / len(_PERIODS)) * BAND
        return Quote(symbol, (base * (1 + share)).quantize(_CENT), time)


def _phase(seed: int, symbol: str, period: float) -> float:
    """Return a number from 0 to 1 derived from the arguments; unlike `hash`, it is the same in every process."""
    digest = hashlib.sha256(f"{seed} {symbol} {period}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48
