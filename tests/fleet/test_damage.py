"""Garbage on the server and in a ledger: what is wrong with one breaker hinders no other."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import pytest
import redis

from cb import CircuitBreaker, CircuitOpenError, LedgerDegraded, State
from cb import layout as at

from .by_hand import CONFIG, Clock, Host, fail, opened, pause
from .servers import BINARIES, Server

KEYS = {part: f"cb:{{f/d}}:{part}" for part in ("circuit", "hosts", "seen", "leases")}
DAY = 86_400_000
Poison = Callable[[Any], object]


@pytest.fixture(scope="module", params=BINARIES)
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Run one server of each kind for all tests, which find it empty."""
    with Server(BINARIES[request.param], tmp_path_factory.mktemp("server")) as made:
        yield made


@pytest.fixture
def server(shared: Server) -> Server:
    shared.client.flushall()
    shared.raw = redis.Redis(port=shared.port)
    return shared


def stored(**fields: Any) -> Poison:
    return lambda client: client.hset(KEYS["circuit"], mapping=fields)


def soon() -> int:
    return int(time.time() * 1000) + 600_000


def fake_hosts(client: Any) -> None:
    client.zadd(KEYS["seen"], {f"f{number}": int(time.time() * 1000) for number in range(5_000)})
    client.zadd(KEYS["seen"], {"future": 9e15, "past": -9e15, "never": float("inf")})


#: what others write under the keys of a breaker, and the server can tell that it is none of ours
GARBAGE: dict[str, Poison] = {
    "state of no circuit": stored(state="BOGUS"),
    "state that is no text": stored(state=b"\xff\x00"),
    "until that is no number": stored(state="OPEN", until="abc"),
    "until that is empty": stored(state="OPEN", until=""),
    "until that is infinite": stored(state="OPEN", until="inf", duration="inf", generation=50),
    "until beyond all floats": stored(state="OPEN", until="1e300", duration="1e300", generation=50),
    "until in 30 million years": stored(state="OPEN", until=10**18, duration=10**18, generation=50),
    "until before time": stored(state="OPEN", until=-(10**15)),
    "generation beyond all cells": stored(generation="1e30"),
    "generation beyond floats": stored(generation=2**53),
    "generation beyond what JSON tells": stored(generation=10**15),
    "generation that is not a number": stored(generation="nan"),
    "generation below zero": stored(generation=-5),
    "rounds that are broken": stored(rounds="0.5", state="OPEN", generation=60, until=soon(), duration=600_000),
    "version of thresholds beyond all cells": stored(terms_version="1e20"),
    "version of thresholds below zero": stored(terms_version=-1),
    "slices that are no list": stored(slices=b"\xc1\xff\x00"),
    "slices of text": stored(slices=b"\x91\x91\x94\xa1x\xa1y\xa1z\xa1w"),
    "slices that are too short": stored(slices=b"\x91\x91\x92\x01\x02"),
    "slices below zero": stored(slices=b"\x91\x91\x94\x01\xff\xff\xff"),
    "slices cut off": stored(slices=b"\x91\x91\x94\x01"),
    "votes below zero": stored(traffic=-1000, bad=-1000, streaks=-1000),
    "streak beyond counting": stored(streak="1e15"),
    "operation of a host that is no number": lambda client: (
        [
            client.hset(KEYS["circuit"], field, "x")
            for field in client.hkeys(KEYS["circuit"])
            if field.startswith(b"operation")
        ]
        or client.hset(KEYS["circuit"], "streak", "x")
    ),
}
#: what looks as if it were ours, or is not looked at, and must do no harm
ODD: dict[str, Poison] = {
    "reason that is no text": stored(reason=b"\xff\xfe\x00"),
    "reason of a megabyte": stored(reason="x" * 2**20),
    "thresholds that are no JSON": stored(terms="{{{", terms_version=99),
    "thresholds nested deeply": stored(terms="[" * 100_000, terms_version=99),
    "thresholds that are a list": stored(terms="[1]", terms_version=99),
    "thresholds of no breaker": stored(terms='{"timeout": "never", "x": 1}', terms_version=99),
    "window that was used in the future": stored(window=1000, window_used=10**13),
    "expiry in the future": stored(expires=10**13),
    "votes of more hosts than there are": stored(traffic=1000, bad=0, streaks=0),
    "hosts that are no list": lambda client: client.hset(KEYS["hosts"], mapping=dict.fromkeys(range(5), b"\xc1")),
    "hosts of text": lambda client: [
        client.hset(KEYS["hosts"], host, b"\x97" + b"\xa1a" * 7) for host in client.hkeys(KEYS["hosts"])
    ],
    "hosts below zero": lambda client: [
        client.hset(KEYS["hosts"], host, b"\x97" + b"\xff" * 7) for host in client.hkeys(KEYS["hosts"])
    ],
    "hosts that nobody has": fake_hosts,
    "fields that nobody has": stored(**{"x": b"\xff", "operation:zz": "x"}),
    "lease of nobody": lambda client: client.hset(KEYS["leases"], "x", b"\xc1"),
}
#: keys of another type, which may belong to somebody
FOREIGN: dict[str, Poison] = {
    **{f"{part} is text": lambda client, key=key: client.set(key, "garbage") for part, key in KEYS.items()},
    "circuit is a list": lambda client: (client.delete(KEYS["circuit"]), client.lpush(KEYS["circuit"], "x")),
    "seen is a hash": lambda client: (client.delete(KEYS["seen"]), client.hset(KEYS["seen"], "x", "y")),
    "all are text": lambda client: [client.set(key, "garbage") for key in KEYS.values()],
}


def pair(server: Server, clock: Clock | None = None, **settings: Any) -> tuple[list[Host], list[CircuitBreaker]]:
    """Return two hosts of a fleet, and their breakers `fine`, which nobody poisons."""
    config, clock = replace(CONFIG, **settings), clock or Clock()
    hosts = [Host(server, config, clock) for _ in range(2)]
    fine = [CircuitBreaker("fine", config, ledger=host.ledger, clock=clock) for host in hosts]
    for host, breaker in zip(hosts, fine, strict=True):
        host.succeed()
        breaker.call(int)
        host.exchange("fine")
    return hosts, fine


def in_fleet(hosts: list[Host], breakers: list[CircuitBreaker]) -> None:
    """Check that the fleet opens the breakers, by failures of which no host alone has enough."""
    for host, breaker in zip(hosts, breakers, strict=True):
        fail(breaker, 3)
        host.exchange(breaker.name)
    for host in hosts:
        host.exchange(breakers[0].name)
    assert [(each.state, each.snapshot().source) for each in breakers] == [(State.OPEN, "fleet")] * 2
    assert all(host.leads for host in hosts)


@pytest.mark.parametrize("kind", [*GARBAGE, *ODD, *FOREIGN])
def test_garbage_under_one_breakers_keys_leaves_the_fleet_to_the_others(
    kind: str, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    hosts, fine = pair(server)
    (GARBAGE | ODD | FOREIGN)[kind](server.raw)
    for host in (*hosts, *hosts):
        host.exchange("fine")
        with suppress(CircuitOpenError):
            host.succeed()
    in_fleet(hosts, fine)
    told = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(told) <= len(hosts), caplog.text


@pytest.mark.parametrize("kind", [*GARBAGE, *ODD])
def test_breaker_whose_stored_numbers_make_no_sense_is_stored_anew_and_opens_and_closes_with_its_fleet(
    kind: str, server: Server
) -> None:
    hosts, _ = pair(server)
    (GARBAGE | ODD)[kind](server.raw)
    for host in (*hosts, *hosts):
        host.exchange()
    assert not any(host.apart for host in hosts)
    assert all((host.breaker.snapshot().retry_after or 0) < 1 for host in hosts)
    hosts[0].breaker.hold(State.FORCED_OPEN, reason="test")
    for host in hosts:
        host.exchange()
    hosts[1].breaker.reset(reason="test")
    for host in reversed(hosts):
        host.exchange()
    for host in hosts:
        host.succeed()
    in_fleet(hosts, [host.breaker for host in hosts])


def test_what_was_stored_and_made_no_sense_is_said_once_in_log_and_event(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    (host, _), _ = pair(server)
    for _ in range(5):
        GARBAGE["state of no circuit"](server.raw)
        host.exchange()
    assert caplog.text.count("breaker d: what the server had stored makes no sense (state)") == 1
    assert [type(event) for event in host.events] == [LedgerDegraded]


@pytest.mark.parametrize("kind", ["state of no circuit", "generation that is not a number"])
def test_open_circuit_whose_stored_state_makes_no_sense_comes_back_from_the_hosts(kind: str, server: Server) -> None:
    hosts, _ = pair(server, timeout=5)
    opened(*hosts)
    GARBAGE[kind](server.raw)
    for host in (*hosts, *hosts):
        host.exchange()
    assert [(host.state, host.breaker.snapshot().source) for host in hosts] == [(State.OPEN, "fleet")] * 2
    assert server.stored("state") == "OPEN"


@pytest.mark.parametrize(
    "kind", sorted(FOREIGN.keys() - {"leases is text"})
)  # which goes with the next change of state
def test_breaker_whose_key_has_another_type_is_its_hosts_own_and_said_and_follows_once_it_is_gone(
    kind: str, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    hosts, _ = pair(server, clock := Clock())
    FOREIGN[kind](server.raw)
    for host in (*hosts, *hosts):
        host.exchange()
    assert all(host.apart == ("d",) for host in hosts)
    assert caplog.text.count("no answer for breaker d: ") == 2
    assert all(any(isinstance(event, LedgerDegraded) for event in host.events) for host in hosts)
    server.raw.delete(*KEYS.values())
    clock.advance(1.05)
    hosts[0].breaker.hold(State.FORCED_OPEN, reason="test")
    for host in (*hosts, *hosts):
        host.exchange()
    assert [host.state for host in hosts] == [State.FORCED_OPEN] * 2
    assert not any(host.apart for host in hosts)


def test_host_whose_breakers_all_have_no_answer_does_not_say_that_it_follows_a_fleet(server: Server) -> None:
    host = Host(server, clock=(clock := Clock())).exchange()
    assert host.leads
    FOREIGN["all are text"](server.raw)
    for _ in range(4):
        clock.advance(1)
        host.agent.turn()
    assert not host.leads
    server.raw.delete(*KEYS.values())
    clock.advance(1.05)
    host.exchange()
    assert host.leads


@pytest.mark.parametrize("kind", ["text", "hash"])
def test_key_of_the_hosts_that_has_another_type_costs_their_number_and_not_the_fleet(
    kind: str, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    hosts, fine = pair(server)
    server.raw.delete("cb:{f}:hosts")
    if kind == "text":
        server.raw.set("cb:{f}:hosts", "x")
    else:
        server.raw.hset("cb:{f}:hosts", "x", "y")
    for host in (*hosts, *hosts):
        host.agent.turn()
    assert [sight.hosts for host in hosts if (sight := host.ledger.fleet(host.clock()))] == [0, 0]
    assert caplog.text.count("how many hosts the fleet has is not known") == 2
    in_fleet(hosts, fine)


def test_hosts_that_nobody_has_are_not_counted(server: Server) -> None:
    far = time.time() * 1000 + 3_600_000
    server.raw.zadd("cb:{f}:hosts", {"a": far, "b": float("inf"), "c": float("-inf"), "d": -1})
    host = Host(server)
    host.agent.turn()
    assert (sight := host.ledger.fleet(host.clock())) and sight.hosts == 1


#: what a damaged row of a ledger may have in one of its cells
CELLS = [
    *[(cell, value) for cell in (at.FLEET, at.TERMS, at.PUBLISH_TERMS) for value in (7, -1, 2**62)],
    *[(cell, value) for cell in (at.REPORTED, at.PERMITS, at.UNTIL) for value in (-(2**62), 2**62)],
    (at.SLICE, 0),
    (at.WORD, 7),
    (at.WORD, -1),
    (at.CONFIG, 0),
    (at.STREAK, 2**62),
]


@pytest.mark.parametrize(("cell", "value"), CELLS)
def test_damaged_row_of_a_ledger_costs_one_host_one_breaker(cell: int, value: int, server: Server) -> None:
    hosts, fine = pair(server)
    hosts[0].ledger.row("d", 1).head[cell] = value
    for host in (*hosts, *hosts):
        host.exchange("fine")
    in_fleet(hosts, fine)
    assert hosts[1].apart == ()
    assert hosts[1].state is State.CLOSED and not hosts[1].refused()


@pytest.mark.parametrize("cell", [at.FLEET, at.TERMS, at.REPORTED])
@pytest.mark.parametrize("value", [7, -1, 2**62])
def test_host_whose_row_had_damaged_what_it_knows_of_the_fleet_joins_it_again(
    cell: int, value: int, server: Server
) -> None:
    hosts, _ = pair(server, clock := Clock())
    hosts[0].ledger.row("d", 1).head[cell] = value
    hosts[0].exchange()
    clock.advance(1.05)
    hosts[1].breaker.hold(State.FORCED_OPEN, reason="test")
    for host in (hosts[1], *hosts):
        host.exchange()
    assert hosts[0].state is State.FORCED_OPEN and not hosts[0].apart


def closes(server: Server, hosts: list[Host], clock: Clock, lose: Callable[[], object]) -> bool:
    """Call and exchange for 15 s, while the server loses what it knows. Return whether all circuits close."""
    for _ in range(60):
        for host in hosts:
            with suppress(CircuitOpenError):
                host.succeed()
            host.exchange()
            lose()
        clock.advance(0.25)
        if server.stored("until"):
            server.client.hincrby(KEYS["circuit"], "until", -250)  # its clock goes on, too
        if all(host.state is State.CLOSED for host in hosts):
            return True
    return False


@pytest.mark.parametrize("lost", ["everything", "leases", "circuit"])
def test_circuit_closes_by_its_host_when_the_server_goes_on_losing_its_rounds(
    lost: str, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    hosts, _ = pair(server, clock := Clock(), max_requests=6, success_threshold=5, half_open_max_duration=5)
    opened(*hosts)
    lose = server.client.flushall if lost == "everything" else lambda: server.client.delete(KEYS[lost])
    assert closes(server, hosts, clock, lose)
    assert caplog.text.count("has no answer for breaker d: the server has lost each round of probes") <= 2


def test_round_that_was_lost_once_is_begun_anew_by_the_fleet(server: Server) -> None:
    hosts, _ = pair(server, clock := Clock(), max_requests=6, success_threshold=5, half_open_max_duration=5)
    opened(*hosts)
    for _ in range(4):
        with suppress(CircuitOpenError):
            hosts[0].succeed()
        clock.advance(0.05)
        pause(0.05)
        hosts[0].exchange()
    assert hosts[0].state is State.HALF_OPEN
    server.client.flushall()
    assert closes(server, hosts, clock, lambda: None)
    assert not any(host.apart for host in hosts)


def test_breaker_whose_rounds_were_lost_follows_its_fleet_again_when_the_server_keeps_them(server: Server) -> None:
    hosts, _ = pair(server, clock := Clock(), max_requests=6, success_threshold=5, half_open_max_duration=5)
    opened(*hosts)
    assert closes(server, hosts, clock, server.client.flushall)
    clock.advance(61)
    hosts[0].breaker.hold(State.FORCED_OPEN, reason="test")
    for host in (*hosts, *hosts):
        host.exchange()
    assert [host.state for host in hosts] == [State.FORCED_OPEN] * 2


def test_probe_is_not_given_again_when_the_server_has_lost_who_has_it(server: Server) -> None:
    hosts, _ = pair(server, clock := Clock())
    opened(*hosts)
    clock.advance(0.2)
    one, other = hosts
    pause(0.11)  # by the server's clock too
    with one.breaker.block() if not one.refused() else _admitted(one):
        server.client.delete(KEYS["leases"])
        assert other.exchange().refused()
        other.exchange()
        assert other.refused()


@contextmanager
def _admitted(host: Host) -> Iterator[None]:
    host.exchange()
    with host.breaker.block():
        yield


@pytest.mark.parametrize("state", [State.OPEN, State.HALF_OPEN])
def test_circuit_stays_open_no_longer_than_a_host_lets_it(state: State, server: Server) -> None:
    hosts, _ = pair(server, timeout=0.1, timeout_max=2)
    stored(state=state.value, generation=70, until=soon() + DAY, duration=DAY)(server.raw)
    for host in hosts:
        host.exchange()
    assert all(host.state is state for host in hosts)
    assert all((host.breaker.snapshot().retry_after or 0) <= 31 for host in hosts)
    if state is State.OPEN:
        assert all((host.breaker.snapshot().retry_after or 0) < 3.1 for host in hosts)


@pytest.mark.parametrize(
    "name", ["a}b{c", "{}", "ä/ö é", "名前", "%s %(x)d", "a:b*?[x]", '"\\', "-- '", "é" * 64, "circuit"]
)
def test_breaker_of_any_name_opens_with_its_fleet_and_hinders_no_other(name: str, server: Server) -> None:
    hosts, fine = pair(server)
    odd = [CircuitBreaker(name, CONFIG, ledger=host.ledger, clock=host.clock) for host in hosts]
    for host, breaker in zip(hosts, odd, strict=True):
        breaker.call(int)
        host.exchange(name)
    in_fleet(hosts, odd)
    in_fleet(hosts, fine)


def test_hosts_whose_thresholds_differ_in_everything_open_and_close_together(server: Server) -> None:
    clock = Clock()
    short = replace(CONFIG, interval=1, timeout=0.1, timeout_max=0.1, max_requests=1, half_open_max_duration=0.5)
    long = replace(CONFIG, interval=60, timeout=60, timeout_max=600, max_requests=9, success_threshold=2)
    hosts = [Host(server, config, clock) for config in (short, long)]
    opened(*hosts)
    assert closes(server, hosts, clock, lambda: None)


def test_host_whose_clock_jumps_ahead_goes_on(server: Server) -> None:
    hosts, fine = pair(server, clock := Clock())
    opened(*hosts)
    clock.advance(86_400)
    assert not any(host.leads for host in hosts)
    for host in (*hosts, *hosts):
        host.agent.turn()
        host.exchange("fine")
    assert all(host.leads for host in hosts)
    in_fleet(hosts, fine)
