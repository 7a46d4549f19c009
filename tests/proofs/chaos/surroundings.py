"""Invariants of exposure, notifications and logs, and of the coverage of the run."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from tests.proofs.chaos.clients import FINAL
from tests.proofs.chaos.facts import Facts
from tests.proofs.chaos.invariants import invariant
from tests.proofs.chaos.proxy import ODDS

#: seconds after the end of the faults within which all trades are settled and all entries delivered
LIMIT = 20
_WITHOUT_EFFECT = {"REJECTED", "CANCELLED", "REFUSED"}


@invariant("settling", f"all trades are settled and delivered within {LIMIT} s of the end of the faults")
def settled_soon(facts: Facts) -> Iterator[str]:
    if facts.took > LIMIT:
        yield f"it took {facts.took:.1f} s"


@invariant("exposure", "the exposure equals the sum of the trades", always=True)
def exposure_is_right(facts: Facts) -> Iterator[str]:
    expected: dict[Any, Decimal] = defaultdict(Decimal)
    for trade in facts.trades:
        if trade.state in _WITHOUT_EFFECT:
            continue
        expected[trade.user_id, f"{trade.attempted_at:%Y-%m-%d}"] += trade.quantity * trade.price
        if trade.side == "BUY":
            expected[trade.user_id, trade.symbol] += trade.quantity
        elif trade.state == "FILLED":
            expected[trade.user_id, trade.symbol] -= trade.quantity
    counted = {(each.user_id, each.what): each.amount for each in facts.exposure}
    for key in expected.keys() | counted.keys():
        if expected[key] != counted.get(key, 0):
            yield f"{key}: {counted.get(key, 0)}, by its trades {expected[key]}"


@invariant("notifications", "users are notified of the final state of each trade exactly once")
def notified_once(facts: Facts) -> Iterator[str]:
    told = Counter(each.trade_id for each in facts.notifications if each.kind == "trade")
    for trade_id, state in facts.states.items():
        if told.pop(trade_id, 0) != (state in FINAL):
            yield f"{trade_id} is {state}, and its user was not notified once"
    yield from (f"{trade_id} is no trade" for trade_id in told)


@invariant("logs", "no log has a traceback, and no response was 500")
def no_tracebacks(facts: Facts) -> Iterator[str]:
    for name, log in facts.logs.items():
        for line in log.splitlines():
            if "Traceback" in line or '"status": 500' in line:
                yield f"{name}: {line[:2000]}"


@invariant("I12", "the run has covered all outcomes, faults and kills")
def coverage(facts: Facts) -> Iterator[str]:
    filled = {trade.side for trade in facts.trades if trade.state == "FILLED"}
    yield from (f"no {side} was filled" for side in {"BUY", "SELL"} - filled)
    states = set(facts.states.values())
    yield from (f"no trade was {state}" for state in {"REJECTED", "CANCELLED", "REFUSED"} - states)
    rejections = {trade.code for trade in facts.booked}
    yield from (
        f"nothing was {each}" for each in {"insufficient-funds", "insufficient-position", "voided"} - rejections
    )
    yield from (f"no {kind}" for kind in [*ODDS, "refused connection"] if not facts.faults[kind])
    yield from (f"no {kind} was killed" for kind in ("worker", "service") if not facts.kills[kind])
    if not any(each.replayed for each in facts.told):
        yield "nothing was replayed"
    if not any(each.http == 409 and not each.trade_id and "idempotency" not in str(each.code) for each in facts.told):
        yield "risk has refused nothing"
    if not any(each.code == "circuit-open" for each in facts.told):
        yield "no circuit was open"
