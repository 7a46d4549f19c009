"""Cost of breakers for a whole service: the gateway with them, without them, and with breakers of interlock.

All three run side by side under gunicorn, with the same portfolio and market data services. wrk sends requests to one
at a time, in short turns. Each turn is compared with its neighbour in time: other programs disturb both alike.
"""

import math
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

import psutil

from .load import ORDERS, Served, platform, wrk
from .result import Check, Figure, Result

#: Turns of each gateway.
ROUNDS = 20
WITH, WITHOUT, PEER = "with breakers", "without", "interlock"
GATEWAYS = {WITH: ("gateway",), WITHOUT: ("benchmarks.gateways", "without"), PEER: ("benchmarks.gateways", "interlock")}
#: Route, path, and seconds of a turn: an order takes three times as long as a read.
READ, ORDER = ("GET market-data", "/api/v1/market-data/AAPL", 1), ("POST trades", "/", 2)


def end_to_end(rounds: int = ROUNDS) -> Result:
    """Measure reads, which call market data, and orders, which call all dependencies."""
    Path("run").mkdir(exist_ok=True)
    rows: dict[str, tuple[Figure, ...]] = {}
    checks = []
    with tempfile.TemporaryDirectory(dir="run") as directory, platform(Path(directory), GATEWAYS) as gateways:
        script = Path(directory) / "orders.lua"
        script.write_text(ORDERS)
        for served in gateways.values():  # caches and connections
            wrk(served.url + READ[1], 1)
        for (route, path, seconds), orders in ((READ, None), (ORDER, script)):
            turns = [_turn(gateways, path, seconds, orders, number) for number in range(rounds)]
            for name in GATEWAYS:
                rate, busy = (statistics.median(turn[name][place] for turn in turns) for place in (0, 1))
                ratios = sorted(turn[name][0] / turn[WITHOUT][0] for turn in turns)
                ratio, low, high = statistics.median(ratios), *_interval(ratios)
                rows[f"{route}: {name}"] = (rate, f"{ratio:.3f}", f"{low:.3f} to {high:.3f}", busy)
                if name == WITH:
                    checks.append(Check(f"{route}, {WITH} / {WITHOUT}", ratio, 0.98, at_most=False))
    columns = ("requests a second", "median ratio", "95 % of it within", "gateway's CPU ms a request")
    title = f"Throughput of the gateway, {rounds} turns, ratios to the neighbour without breakers"
    return Result(title, columns, rows, checks)


def _turn(
    gateways: dict[str, Served], path: str, seconds: int, script: Path | None, number: int
) -> dict[str, tuple[float, float]]:
    """Measure all gateways once. Return the rate of each, and its CPU milliseconds per request."""
    turn = {}
    # The order alternates: the first gateway of a turn has an advantage.
    for name in sorted(gateways, key=list(gateways).index, reverse=number % 2 == 1):
        served = gateways[name]
        before = _busy(served.pid)
        found = wrk(served.url + path, seconds, script)
        if found.bad:
            raise RuntimeError(f"{name}: {found.bad} requests to {path} failed")
        turn[name] = found.per_second, (_busy(served.pid) - before) / (found.per_second * seconds) * 1000
    return turn


def _busy(pid: int) -> float:
    """Return the CPU seconds of a process and its children."""
    family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    return sum(sum(each.cpu_times()[:2]) for each in family)


def _interval(ordered: Sequence[float]) -> tuple[float, float]:
    """Return the 95 % confidence interval of the median, by the ranks of a binomial distribution."""
    count = len(ordered)
    rank = max(math.floor((count - 1.96 * math.sqrt(count)) / 2), 1)
    return ordered[rank - 1], ordered[-rank]
