"""The invariants: functions that yield violations, each with its rule."""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from portfolio.tables import CASH, MARKET
from tests.proofs.chaos.clients import FINAL, by_order, problem
from tests.proofs.chaos.facts import Facts

Check = Callable[[Facts], Iterator[str]]


@dataclass(frozen=True, slots=True)
class Invariant:
    name: str
    #: the rule, in a sentence
    rule: str
    check: Check
    #: True if it holds at every moment, False if only after all trades are settled
    always: bool


INVARIANTS: list[Invariant] = []


def invariant(name: str, rule: str, *, always: bool = False) -> Callable[[Check], Check]:
    def add(check: Check) -> Check:
        INVARIANTS.append(Invariant(name, rule, check, always))
        return check

    return add


@invariant("I1", "every returned trade id exists, and no trade stays pending")
def ids_exist(facts: Facts) -> Iterator[str]:
    states = facts.states
    yield from {
        f"{each.trade_id} does not exist" for each in facts.told if each.trade_id and each.trade_id not in states
    }
    yield from (f"{trade_id} is {state}" for trade_id, state in states.items() if state in {"RECEIVED", "APPLYING"})


@invariant("I2", "exactly the trades filled by the portfolio are FILLED at the gateway", always=True)
def both_agree(facts: Facts) -> Iterator[str]:
    states, outcomes = facts.states, facts.outcomes
    for trade_id, state in states.items():
        outcome = outcomes.get(trade_id)
        if state in FINAL and (state == "FILLED") != (outcome == "FILLED"):
            yield f"{trade_id} is {state}, at the portfolio {outcome}"
        if state == "REFUSED" and outcome == "FILLED" and facts.settled:
            yield f"{trade_id} is {state}, at the portfolio {outcome}"
    if facts.settled:
        unknown = {trade_id for trade_id, outcome in outcomes.items() if outcome == "FILLED"} - states.keys()
        yield from (f"{trade_id} is FILLED at the portfolio, and unknown to the gateway" for trade_id in unknown)


@invariant("I3", "a filled trade has exactly four entries, and no other trade has any", always=True)
def four_entries(facts: Facts) -> Iterator[str]:
    entries = Counter(entry.trade_id for entry in facts.entries)
    for trade_id, outcome in facts.outcomes.items():
        if entries[trade_id] != (4 if outcome == "FILLED" else 0):
            yield f"{trade_id} is {outcome} and has {entries[trade_id]} entries"


@invariant("I4", "the entries of each trade and asset sum to zero", always=True)
def zero_sum(facts: Facts) -> Iterator[str]:
    sums: dict[Any, Decimal] = defaultdict(Decimal)
    for entry in facts.entries:
        sums[entry.trade_id, entry.asset] += entry.amount
    yield from (f"{key}: {total}" for key, total in sums.items() if total)


@invariant("I5", "a balance is the opening balance plus the entries, per user and asset", always=True)
def balances(facts: Facts) -> Iterator[str]:
    expected: dict[Any, Decimal] = defaultdict(Decimal)
    for account in facts.accounts:
        expected[account.user_id, CASH] += account.opening_cash
    for entry in facts.entries:
        if entry.holder != MARKET:
            expected[entry.holder, entry.asset] += entry.amount
    held = {(account.user_id, CASH): account.cash for account in facts.accounts}
    held |= {(each.user_id, each.symbol): Decimal(each.quantity) for each in facts.positions}
    for key in expected.keys() | held.keys():
        if expected[key] != held.get(key, 0):
            yield f"{key}: {held.get(key, 0)}, by its entries {expected[key]}"


@invariant("I6", "no balance is negative", always=True)
def nothing_negative(facts: Facts) -> Iterator[str]:
    yield from (f"{each.user_id} has {each.cash}" for each in facts.accounts if each.cash < 0)
    yield from (f"{each.user_id} has {each.quantity} {each.symbol}" for each in facts.positions if each.quantity < 0)


@invariant("I7", "a final response never changes, and a key belongs to one trade")
def answers_stay(facts: Facts) -> Iterator[str]:
    first: dict[str, Any] = {}
    for each in sorted(facts.told, key=lambda answer: answer.answered):
        if not each.trade_id or each.http is None or each.http == 503:
            continue
        known = first.get(each.trade_id)
        if known and each.status != known.status and (each.status in FINAL or each.asked > known.answered):
            yield f"{each.trade_id} was {known.status}, and then {each.status}"
        if not known and each.status in FINAL:
            first[each.trade_id] = each
    for order, told in by_order(facts.told):
        ids = {each.trade_id for each in told if each.trade_id}
        if len(ids) > 1:
            yield f"{order} has trades {ids}"


@invariant("I8", "responses equal stored trades: an order is at most one trade, and none if refused")
def told_is_stored(facts: Facts) -> Iterator[str]:
    yield from (wrong for each in facts.told if (wrong := problem(each)))
    stored = defaultdict(list)
    for trade in facts.trades:
        stored[trade.user_id, trade.symbol, trade.quantity, trade.side, trade.price].append(trade)
    filled = Counter(
        (each.user_id, each.symbol, each.quantity, each.side, each.price)
        for each in facts.booked
        if each.outcome == "FILLED"
    )
    for order, told in by_order(facts.told):
        key = (order.user_id, order.symbol, order.quantity, order.side, order.price)
        trades = stored.pop(key, [])
        if len(trades) > 1 or filled[key] > 1:
            yield f"{order} is {len(trades)} trades, and was booked {filled[key]} times"
        state = {trade.trade_id: trade.state for trade in trades}
        for each in told:
            if each.status in FINAL and state.get(str(each.trade_id)) != each.status:
                yield f"{each.trade_id} was returned as {each.status}, and is {state.get(str(each.trade_id))}"
        refused = all(each.http == 503 or (each.http == 409 and not each.trade_id) for each in told)
        waiting = any("idempotency" in str(each.code) for each in told)
        if refused and not waiting and filled[key]:
            yield f"{order} was refused, and is booked"
    yield from (f"no client placed {key}" for key in stored)


@invariant("I9", "the audit log is a valid chain from 1 to n", always=True)
def chain_holds(facts: Facts) -> Iterator[str]:
    before = "0" * 64
    for n, each in enumerate(facts.audit, 1):
        computed = hashlib.sha256(f"{before}\n{each.entry}".encode()).hexdigest()
        if (each.n, each.previous, each.hash) != (n, before, computed):
            yield f"entry {each.n}, which should be {n}, does not follow"
        before = each.hash
    said = facts.verified
    if facts.settled and (said["valid"], said["entries"], said["head"]) != (True, len(facts.audit), before):
        yield f"the gateway returned {said}"


@invariant(
    "I10",
    "the audit log has each move of each trade once and in order, as soon as it is marked",
    always=True,
)
def audit_complete(facts: Facts) -> Iterator[str]:
    said: dict[str, list[Any]] = defaultdict(list)
    for each in facts.audit:
        entry = json.loads(each.entry)
        said[each.trade_id].append((entry["seq"], entry["state"], entry["code"], entry["at"]))
    happened: dict[str, list[Any]] = defaultdict(list)
    for row in sorted(facts.journal, key=lambda row: row.seq):
        if row.audited or facts.settled or len(happened[row.trade_id]) < len(said[row.trade_id]):
            happened[row.trade_id].append((row.seq, row.state, row.code, row.at.isoformat()))
    for trade_id in said.keys() | happened.keys():
        if said[trade_id] != happened[trade_id]:
            yield f"{trade_id}: recorded {said[trade_id]}, happened {happened[trade_id]}"
    moves = Counter(row.trade_id for row in facts.journal)
    yield from (
        f"{each.trade_id} has not {each.seq} moves" for each in facts.trades if moves[each.trade_id] != each.seq
    )


@invariant("I11", "the last audit entry of a trade is its state")
def audit_ends_with_state(facts: Facts) -> Iterator[str]:
    last = {each.trade_id: json.loads(each.entry)["state"] for each in facts.audit}
    for trade_id, state in facts.states.items():
        if last.get(trade_id) != state:
            yield f"{trade_id} is {state}, and recorded as {last.get(trade_id)}"
