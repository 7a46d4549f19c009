"""A server that is suspended, killed, restarted empty, or not yet started. docs/rules.md, rule 18."""

from dataclasses import replace
from pathlib import Path

import pytest

from cb import State
from tests.fleet.hosts import CONFIG, Host, all_in, everyone, hosts, together
from tests.fleet.inside import end_traffic, fail, heal, start_traffic, succeed
from tests.support.redis_servers import Server, always
from tests.support.waiting import until

pytestmark = pytest.mark.quiet

#: Seconds that a call may take beyond the dependency's own time: far less than any wait for a server.
QUICK = 0.1


def ended(made: list[Host]) -> float:
    """End the traffic of all hosts. Return the slowest call; check that no unexpected exception reached a caller."""
    seen = together(everyone(made), end_traffic)
    assert not [each.strange for each in seen if each.strange]
    return max((each.slowest for each in seen), default=0.0)


def test_hosts_start_without_a_server_and_join_when_it_starts(valkey: Server, tmp_path: Path) -> None:
    valkey.kill()
    with hosts(tmp_path, [valkey.url] * 2, joined=False) as made:
        assert [host.call(fail, 11) for host in made] == [10, 10]
        valkey.start()
        until(lambda: all(host.known for host in made), seconds=5)
        made[0].reset()
        all_in(State.CLOSED, made, 5)


def test_failures_counted_before_the_first_start_of_the_server_open_the_fleet(valkey: Server, tmp_path: Path) -> None:
    valkey.kill()
    with hosts(tmp_path, [valkey.url] * 4, joined=False) as made:
        assert together(everyone(made), fail, 9) == [9] * 4
        valkey.start()
        all_in(State.OPEN, made, 5)


def test_suspended_server_delays_no_call_and_each_host_decides_alone(valkey: Server, tmp_path: Path) -> None:
    with hosts(tmp_path, [valkey.url] * 2, processes=2) as made:
        sick, well = made
        together(well.workers, start_traffic, False)
        together(sick.workers, succeed, 1)
        valkey.stop()
        together(sick.workers, start_traffic, True)
        all_in(State.OPEN, [sick])
        together(sick.workers, heal)
        all_in(State.CLOSED, [sick])
        assert well.state is State.CLOSED
        valkey.resume()
        last_sync = [host.last_sync for host in made]
        until(lambda: all(host.last_sync > before for host, before in zip(made, last_sync, strict=True)), seconds=4)
        assert ended(made) < QUICK


def test_hosts_probe_an_open_circuit_alone_after_the_lease_of_a_suspended_server_and_the_fleet_agrees_later(
    valkey: Server, tmp_path: Path
) -> None:
    with hosts(tmp_path, [valkey.url] * 2) as made:
        together(everyone(made), fail, 6)
        all_in(State.OPEN, made)
        assert all(host.fleet_controlled for host in made)
        valkey.stop()
        together(everyone(made), start_traffic, False)
        all_in(State.CLOSED, made, 4)
        assert not any(host.fleet_controlled for host in made)
        valkey.resume()
        until(lambda: valkey.stored("state") == "CLOSED", seconds=5)
        all_in(State.CLOSED, made)
        assert ended(made) < QUICK


def test_killed_server_delays_no_call_and_the_fleet_works_after_its_return(valkey: Server, tmp_path: Path) -> None:
    with hosts(tmp_path, [valkey.url] * 2, processes=2) as made:
        together(everyone(made), start_traffic, False)
        valkey.restart_empty()
        until(lambda: int(valkey.stored("traffic") or 0) == 2, seconds=5)
        made[0].hold(State.FORCED_OPEN)
        all_in(State.FORCED_OPEN, made)
        assert ended(made) < QUICK


def test_failures_counted_while_the_server_is_down_open_the_fleet_on_its_return(valkey: Server, tmp_path: Path) -> None:
    with hosts(tmp_path, [valkey.url] * 4) as made:
        valkey.kill()
        assert together(everyone(made), fail, 9) == [9] * 4
        assert all(host.state is State.CLOSED for host in made)
        valkey.start()
        all_in(State.OPEN, made, 5)


def test_failures_counted_while_the_server_is_suspended_open_the_fleet_later(valkey: Server, tmp_path: Path) -> None:
    with hosts(tmp_path, [valkey.url] * 2) as made:
        valkey.stop()
        assert together(everyone(made), fail, 9) == [9] * 2
        assert always(lambda: all(host.state is State.CLOSED for host in made), 0.3)
        valkey.resume()
        all_in(State.OPEN, made, 5)


def test_open_circuit_stays_open_when_the_server_is_restarted_empty_and_recovers(
    valkey: Server, tmp_path: Path
) -> None:
    with hosts(tmp_path, [valkey.url] * 3, config=replace(CONFIG, timeout=1.5)) as made:
        together(everyone(made), fail, 9)
        all_in(State.OPEN, made)
        valkey.restart_empty()
        until(lambda: valkey.stored("state") == "OPEN", seconds=3)
        assert always(lambda: all(host.state is State.OPEN and host.fleet_controlled for host in made), 0.3)
        together(everyone(made), start_traffic, False)
        all_in(State.CLOSED, made, 6)
        assert sum(sum(seen.probes.values()) for seen in together(everyone(made), end_traffic)) <= 3


def test_held_circuit_stays_held_when_the_server_is_restarted_empty(valkey: Server, tmp_path: Path) -> None:
    with hosts(tmp_path, [valkey.url] * 2) as made:
        made[0].hold(State.FORCED_OPEN)
        all_in(State.FORCED_OPEN, made)
        valkey.restart_empty()
        until(lambda: valkey.stored("state") == "FORCED_OPEN", seconds=3)
        made[1].reset()
        all_in(State.CLOSED, made)


def test_eviction_of_a_key_loses_counts_only(valkey: Server, tmp_path: Path) -> None:
    with hosts(tmp_path, [valkey.url] * 2, config=replace(CONFIG, interval=1)) as made:

        def both_have_traffic() -> bool:
            # Calls again: in a window of a second, the report of one host may leave before that of the other.
            together(everyone(made), succeed, 3)
            return int(valkey.stored("traffic") or 0) == 2

        until(both_have_traffic, seconds=3)
        valkey.client.delete("cb:{f/d}:hosts")
        # The next report finds reports that have left the window.
        assert always(lambda: all(host.state is State.CLOSED for host in made), 1.2)
        together(everyone(made), fail, 9)
        all_in(State.OPEN, made)


def test_evicted_scripts_are_sent_again(server: Server, tmp_path: Path) -> None:
    with hosts(tmp_path, [server.url] * 2) as made:
        server.client.script_flush()
        together(everyone(made), fail, 6)
        all_in(State.OPEN, made)


def test_closed_connections_are_reopened(valkey: Server, tmp_path: Path) -> None:
    with hosts(tmp_path, [valkey.url] * 2) as made:
        for kind in ("normal", "pubsub"):
            valkey.client.client_kill_filter(_type=kind, skipme=True)
        together(everyone(made), fail, 6)
        all_in(State.OPEN, made)
