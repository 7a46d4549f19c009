"""Invalid data of a breaker on the server does not affect other breakers."""

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from cb import CircuitOpenError, LedgerDegraded, Registry, State
from cb.integrations.prometheus import BreakerCollector
from tests.fleet.by_hand import KEYS, Clock, Host, in_fleet, opened, pair
from tests.support.redis_servers import Server

DAY = 86_400_000
Poison = Callable[[Any], object]


def stored(**fields: Any) -> Poison:
    return lambda client: client.hset(KEYS["circuit"], mapping=fields)


def soon() -> int:
    return int(time.time() * 1000) + 600_000


def fake_hosts(client: Any) -> None:
    client.zadd(KEYS["seen"], {f"f{number}": int(time.time() * 1000) for number in range(5_000)})
    client.zadd(KEYS["seen"], {"future": 9e15, "past": -9e15, "never": float("inf")})


#: Invalid data under the keys of a breaker, which the script recognizes.
GARBAGE: dict[str, Poison] = {
    "unknown state": stored(state="BOGUS"),
    "state that is not text": stored(state=b"\xff\x00"),
    "until that is not a number": stored(state="OPEN", until="abc"),
    "until that is empty": stored(state="OPEN", until=""),
    "until that is infinite": stored(state="OPEN", until="inf", duration="inf", generation=50),
    "until beyond all floats": stored(state="OPEN", until="1e300", duration="1e300", generation=50),
    "until in 30 million years": stored(state="OPEN", until=10**18, duration=10**18, generation=50),
    "until before time": stored(state="OPEN", until=-(10**15)),
    "generation beyond all cells": stored(generation="1e30"),
    "generation beyond floats": stored(generation=2**53),
    "generation beyond the digits of JSON": stored(generation=10**15),
    "generation that is not a number": stored(generation="nan"),
    "generation below zero": stored(generation=-5),
    "rounds that are broken": stored(rounds="0.5", state="OPEN", generation=60, until=soon(), duration=600_000),
    "version of thresholds beyond all cells": stored(thresholds_version="1e20"),
    "version of thresholds below zero": stored(thresholds_version=-1),
    "slices that are not a list": stored(slices=b"\xc1\xff\x00"),
    "slices of text": stored(slices=b"\x91\x91\x94\xa1x\xa1y\xa1z\xa1w"),
    "slices that are too short": stored(slices=b"\x91\x91\x92\x01\x02"),
    "slices below zero": stored(slices=b"\x91\x91\x94\x01\xff\xff\xff"),
    "slices cut off": stored(slices=b"\x91\x91\x94\x01"),
    "votes below zero": stored(traffic=-1000, bad=-1000, streaks=-1000),
    "streak beyond counting": stored(streak="1e15"),
    "operation of a host that is not a number": lambda client: (
        [
            client.hset(KEYS["circuit"], field, "x")
            for field in client.hkeys(KEYS["circuit"])
            if field.startswith(b"operation")
        ]
        or client.hset(KEYS["circuit"], "streak", "x")
    ),
}
#: Data that the script accepts or does not read, and that must have no effect.
ODD: dict[str, Poison] = {
    "reason that is not text": stored(reason=b"\xff\xfe\x00"),
    "reason of a megabyte": stored(reason="x" * 2**20),
    "thresholds that are not JSON": stored(thresholds="{{{", thresholds_version=99),
    "thresholds nested deeply": stored(thresholds="[" * 100_000, thresholds_version=99),
    "thresholds that are a list": stored(thresholds="[1]", thresholds_version=99),
    "thresholds of no breaker": stored(thresholds='{"timeout": "never", "x": 1}', thresholds_version=99),
    "window that was used in the future": stored(window=1000, window_used=10**13),
    "expiry in the future": stored(expires=10**13),
    "votes of more hosts than there are": stored(traffic=1000, bad=0, streaks=0),
    "hosts that are not a list": lambda client: client.hset(KEYS["hosts"], mapping=dict.fromkeys(range(5), b"\xc1")),
    "hosts of text": lambda client: [
        client.hset(KEYS["hosts"], host, b"\x97" + b"\xa1a" * 7) for host in client.hkeys(KEYS["hosts"])
    ],
    "hosts below zero": lambda client: [
        client.hset(KEYS["hosts"], host, b"\x97" + b"\xff" * 7) for host in client.hkeys(KEYS["hosts"])
    ],
    "hosts of no host": fake_hosts,
    "fields of no host": stored(**{"x": b"\xff", "operation:zz": "x"}),
    "lease of no host": lambda client: client.hset(KEYS["leases"], "x", b"\xc1"),
}
#: Keys of another type, which may belong to another program.
FOREIGN: dict[str, Poison] = {
    **{f"{part} is text": lambda client, key=key: client.set(key, "garbage") for part, key in KEYS.items()},
    "circuit is a list": lambda client: (client.delete(KEYS["circuit"]), client.lpush(KEYS["circuit"], "x")),
    "seen is a hash": lambda client: (client.delete(KEYS["seen"]), client.hset(KEYS["seen"], "x", "y")),
    "all are text": lambda client: [client.set(key, "garbage") for key in KEYS.values()],
}


@pytest.mark.parametrize("kind", [*GARBAGE, *ODD, *FOREIGN])
def test_invalid_data_of_one_breaker_does_not_affect_others(
    kind: str, emptied: Server, caplog: pytest.LogCaptureFixture
) -> None:
    hosts, fine = pair(emptied)
    (GARBAGE | ODD | FOREIGN)[kind](emptied.raw)
    for host in (*hosts, *hosts):
        host.sync("fine")
        with suppress(CircuitOpenError):
            host.succeed()
    in_fleet(hosts, fine)
    logged = [record for record in caplog.records if record.levelno >= logging.WARNING and record.name != "cb.circuits"]
    assert len(logged) <= len(hosts), caplog.text


@pytest.mark.parametrize("kind", [*GARBAGE, *ODD])
def test_breaker_with_invalid_data_is_restored_and_opens_and_closes_with_its_fleet(kind: str, emptied: Server) -> None:
    hosts, _ = pair(emptied)
    (GARBAGE | ODD)[kind](emptied.raw)
    for host in (*hosts, *hosts):
        host.sync()
    assert not any(host.unreachable for host in hosts)
    assert all((host.breaker.snapshot().retry_after or 0) < 1 for host in hosts)
    hosts[0].breaker.control.force_open(reason="test")
    for host in hosts:
        host.sync()
    hosts[1].breaker.control.reset(reason="test")
    for host in reversed(hosts):
        host.sync()
    for host in hosts:
        host.succeed()
    in_fleet(hosts, [host.breaker for host in hosts])


def test_invalid_data_is_logged_once_and_emitted_once(emptied: Server, caplog: pytest.LogCaptureFixture) -> None:
    (host, _), _ = pair(emptied)
    for _ in range(5):
        GARBAGE["unknown state"](emptied.raw)
        host.sync()
    assert caplog.text.count("breaker d: the data stored on the server was invalid (state)") == 1
    assert [type(event) for event in host.events] == [LedgerDegraded]


@pytest.mark.parametrize("kind", ["unknown state", "generation that is not a number"])
def test_open_circuit_with_an_invalid_stored_state_is_restored_by_the_hosts(kind: str, emptied: Server) -> None:
    hosts, _ = pair(emptied, timeout=5)
    opened(*hosts)
    GARBAGE[kind](emptied.raw)
    for host in (*hosts, *hosts):
        host.sync()
    assert [(host.state, host.breaker.snapshot().source) for host in hosts] == [(State.OPEN, "fleet")] * 2
    assert emptied.stored("state") == "OPEN"


@pytest.mark.parametrize(
    "kind", sorted(FOREIGN.keys() - {"leases is text"})
)  # the leases are deleted with the next change of state
def test_breaker_with_a_key_of_another_type_is_decided_by_its_host_until_the_key_is_gone(
    kind: str, emptied: Server, caplog: pytest.LogCaptureFixture
) -> None:
    hosts, _ = pair(emptied, clock := Clock())
    FOREIGN[kind](emptied.raw)
    for host in (*hosts, *hosts):
        host.sync()
    assert all(host.unreachable == ("d",) for host in hosts)
    assert caplog.text.count("no valid reply for breaker d: ") == 2
    assert all(any(isinstance(event, LedgerDegraded) for event in host.events) for host in hosts)
    emptied.raw.delete(*KEYS.values())
    clock.advance(1.05)
    hosts[0].breaker.control.force_open(reason="test")
    for host in (*hosts, *hosts):
        host.sync()
    assert [host.state for host in hosts] == [State.FORCED_OPEN] * 2
    assert not any(host.unreachable for host in hosts)


def test_host_without_a_valid_reply_for_any_breaker_is_not_connected(emptied: Server) -> None:
    host = Host(emptied, clock=(clock := Clock())).sync()
    assert host.connected
    FOREIGN["all are text"](emptied.raw)
    for _ in range(4):
        clock.advance(1)
        host.agent.run_once()
    assert not host.connected
    emptied.raw.delete(*KEYS.values())
    clock.advance(1.05)
    host.sync()
    assert host.connected


@pytest.mark.parametrize("kind", ["text", "hash"])
def test_key_of_the_hosts_with_another_type_makes_only_their_number_unknown(
    kind: str, emptied: Server, caplog: pytest.LogCaptureFixture
) -> None:
    hosts, fine = pair(emptied)
    emptied.raw.delete("cb:{f}:hosts")
    if kind == "text":
        emptied.raw.set("cb:{f}:hosts", "x")
    else:
        emptied.raw.hset("cb:{f}:hosts", "x", "y")
    for host in (*hosts, *hosts):
        host.agent.run_once()
    assert [view.hosts for host in hosts if (view := host.ledger.core.fleet(host.clock()))] == [0, 0]
    assert caplog.text.count("the number of hosts in the fleet is unknown") == 2
    in_fleet(hosts, fine)


def test_excessive_leases_are_deleted(emptied: Server) -> None:
    hosts, _ = pair(emptied)
    stored(state="HALF_OPEN", generation=70, until=soon(), duration=600_000)(emptied.raw)
    emptied.raw.hset(KEYS["leases"], mapping=dict.fromkeys(map(str, range(20_000)), b"x"))
    hosts[0].sync()
    assert emptied.raw.hlen(KEYS["leases"]) <= 1


def test_invalid_heartbeats_are_not_counted(emptied: Server) -> None:
    far = time.time() * 1000 + 3_600_000
    emptied.raw.zadd("cb:{f}:hosts", {"a": far, "b": float("inf"), "c": float("-inf"), "d": -1})
    host = Host(emptied)
    host.agent.run_once()
    assert (view := host.ledger.core.fleet(host.clock())) and view.hosts == 1


def test_breaker_without_a_valid_reply_is_in_the_metrics(emptied: Server) -> None:
    host = Host(emptied).sync()
    metrics = BreakerCollector(Registry(ledger=host.ledger))
    assert 'circuit_breaker_fleet_apart{name="d"} 0' in metrics.text()
    FOREIGN["circuit is text"](emptied.raw)
    host.sync()
    assert 'circuit_breaker_fleet_apart{name="d"} 1' in metrics.text()
