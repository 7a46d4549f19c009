"""Operators' actions on one host apply to all hosts. docs/rules.md, rule 19."""

from pathlib import Path
from socket import gethostname

import pytest

from cb import State
from tests.fleet.hosts import all_in, everyone, hosts, together
from tests.fleet.inside import end_traffic, fail, reasons, start_traffic, succeed, threshold
from tests.support.redis_servers import Server, always
from tests.support.waiting import until


@pytest.mark.parametrize("state", [State.FORCED_OPEN, State.DISABLED, State.METRICS_ONLY])
def test_hold_and_reset_reach_every_worker_with_reason_and_author(valkey: Server, tmp_path: Path, state: State) -> None:
    with hosts(tmp_path, [valkey.url] * 3, processes=2) as made:
        made[0].hold(state, reason="maintenance")
        all_in(state, made)
        assert together(everyone(made), succeed, 1) == [int(state is not State.FORCED_OPEN)] * 6
        assert made[0].call(reasons)[-1] == "maintenance (by alice)"
        assert all(host.call(reasons)[-1] == f"maintenance (by alice on {gethostname()})" for host in made[1:])
        made[2].reset(reason="done")
        all_in(State.CLOSED, made)
        assert made[2].call(reasons)[-1] == "done (by alice)"
        assert all(host.call(reasons)[-1] == f"done (by alice on {gethostname()})" for host in made[:2])
        assert together(everyone(made), succeed, 1) == [1] * 6


def test_forced_open_that_expires_is_followed_by_probes_of_the_fleet(valkey: Server, tmp_path: Path) -> None:
    with hosts(tmp_path, [valkey.url] * 2) as made:
        made[0].hold(State.FORCED_OPEN, duration=0.5)
        all_in(State.FORCED_OPEN, made)
        together(everyone(made), start_traffic, False)
        all_in(State.CLOSED, made, 4)
        assert sum(sum(seen.probes.values()) for seen in together(everyone(made), end_traffic)) <= 3


@pytest.mark.parametrize("state", [State.DISABLED, State.METRICS_ONLY])
def test_hold_that_expires_without_a_call_closes_everywhere(valkey: Server, tmp_path: Path, state: State) -> None:
    with hosts(tmp_path, [valkey.url] * 2) as made:
        made[0].hold(state, duration=0.5)
        all_in(state, made)
        all_in(State.CLOSED, made, 3)


def test_reset_on_one_host_closes_circuits_that_other_hosts_opened_alone(valkey: Server, tmp_path: Path) -> None:
    with hosts(tmp_path, [valkey.url] * 3) as (sick, well, other):
        for host in (well, other):
            host.call(succeed, 5)
        until(lambda: valkey.stored("traffic") == "2", seconds=3)
        sick.call(fail, 10)
        until(lambda: sick.reported_failures == 10, seconds=3)
        assert sick.state is State.OPEN and not sick.fleet_controlled
        well.reset()
        all_in(State.CLOSED, [sick])


def test_reset_begins_a_new_window_on_every_host(valkey: Server, tmp_path: Path) -> None:
    with hosts(tmp_path, [valkey.url] * 2) as (failing, other):
        failing.call(fail, 9)
        until(lambda: failing.reported_failures == 9, seconds=3)
        known = failing.known
        other.reset()
        until(lambda: failing.known == other.known != known, seconds=3)
        failing.call(fail, 1)
        assert always(lambda: failing.state is State.CLOSED, 0.3)


def test_hold_of_one_host_only_stays_there_until_the_fleet_is_steered(valkey: Server, tmp_path: Path) -> None:
    with hosts(tmp_path, [valkey.url] * 2) as (first, other):
        first.hold(State.FORCED_OPEN, host_only=True)
        other.call(succeed, 1)
        assert always(lambda: first.state is State.FORCED_OPEN and other.state is State.CLOSED, 0.3)
        other.hold(State.DISABLED)
        all_in(State.DISABLED, [first, other])


def test_host_only_hold_outlasts_an_opening_of_the_fleet(valkey: Server, tmp_path: Path) -> None:
    with hosts(tmp_path, [valkey.url] * 3) as (held, *others):
        held.hold(State.DISABLED, host_only=True)
        together(everyone(others), fail, 9)
        all_in(State.OPEN, others)
        assert always(lambda: held.state is State.DISABLED, 0.3)


def test_host_only_reset_lets_a_host_call_while_the_fleet_is_open(valkey: Server, tmp_path: Path) -> None:
    with hosts(tmp_path, [valkey.url] * 2) as (first, other):
        other.hold(State.FORCED_OPEN)
        all_in(State.FORCED_OPEN, [first])
        first.reset(host_only=True)
        first.call(succeed, 1)
        assert always(lambda: first.state is State.CLOSED and other.state is State.FORCED_OPEN, 0.3)


def test_two_operators_at_once_end_with_one_state_for_all(valkey: Server, tmp_path: Path) -> None:
    with hosts(tmp_path, [valkey.url] * 3) as made:
        made[0].hold(State.FORCED_OPEN)
        made[1].hold(State.DISABLED)

        def agreed() -> bool:
            return len({(host.state, host.known) for host in made}) == 1 and made[0].state is not State.CLOSED

        # The order of the two agents decides which state it is.
        until(lambda: agreed() and always(agreed, 0.3), seconds=5)


def test_new_thresholds_apply_to_all_hosts_and_host_only_ones_to_one(server: Server, tmp_path: Path) -> None:
    with hosts(tmp_path, [server.url] * 2, processes=2) as made:
        made[0].configure(failure_threshold=7, timeout=3)
        until(lambda: together(everyone(made), threshold, "failure_threshold") == [7] * 4, seconds=3)
        assert together(everyone(made), threshold, "timeout") == [3] * 4
        made[1].configure(failure_threshold=9, host_only=True)
        made[1].call(succeed, 1)
        assert always(lambda: made[0].call(threshold, "failure_threshold") == 7, 0.3)
        assert together(made[1].workers, threshold, "failure_threshold") == [9] * 2
        made[0].configure(failure_threshold=5)
        until(lambda: together(everyone(made), threshold, "failure_threshold") == [5] * 4, seconds=3)


def test_hold_made_while_the_server_is_down_is_published_on_its_return(valkey: Server, tmp_path: Path) -> None:
    with hosts(tmp_path, [valkey.url] * 2) as (first, other):
        valkey.kill()
        first.hold(State.FORCED_OPEN, reason="by night")
        assert always(lambda: other.state is State.CLOSED, 0.3)
        valkey.start()
        all_in(State.FORCED_OPEN, [first, other], 5)
        assert other.call(reasons)[-1] == f"by night (by alice on {gethostname()})"


def test_reset_made_while_the_server_is_down_replaces_the_state_that_the_server_lost(
    valkey: Server, tmp_path: Path
) -> None:
    with hosts(tmp_path, [valkey.url] * 2) as made:
        made[0].hold(State.FORCED_OPEN)
        all_in(State.FORCED_OPEN, made)
        valkey.kill()
        made[1].reset()
        valkey.start()
        all_in(State.CLOSED, made, 5)


def test_thresholds_set_while_the_server_is_down_are_published_on_its_return(valkey: Server, tmp_path: Path) -> None:
    with hosts(tmp_path, [valkey.url] * 2) as made:
        valkey.kill()
        made[0].configure(failure_threshold=7)
        valkey.start()
        until(lambda: together(everyone(made), threshold, "failure_threshold") == [7] * 2, seconds=5)


def test_thresholds_changed_while_earlier_ones_are_being_sent_reach_the_fleet(valkey: Server, tmp_path: Path) -> None:
    with hosts(tmp_path, [valkey.url] * 2) as made:
        last_sync = made[0].last_sync
        until(lambda: made[0].last_sync > last_sync, seconds=3)  # then the agent sends nothing else for a second
        valkey.stop()
        made[0].configure(failure_threshold=7)
        assert always(lambda: made[1].call(threshold, "failure_threshold") is None, 0.1)  # the agent waits for a reply
        made[0].configure(failure_threshold=8)
        valkey.resume()
        until(lambda: made[1].call(threshold, "failure_threshold") is not None, seconds=5)
        until(lambda: together(everyone(made), threshold, "failure_threshold") == [8] * 2, seconds=3)


def test_host_that_joins_later_adopts_state_and_thresholds_of_the_fleet(valkey: Server, tmp_path: Path) -> None:
    with hosts(tmp_path, [valkey.url]) as (first,):
        first.hold(State.FORCED_OPEN)
        first.configure(failure_threshold=7)
        until(lambda: valkey.stored("thresholds") and valkey.stored("state") == "FORCED_OPEN", seconds=3)
        (tmp_path / "later").mkdir()
        with hosts(tmp_path / "later", [valkey.url]) as (later,):
            all_in(State.FORCED_OPEN, [later])
            until(lambda: later.call(threshold, "failure_threshold") == 7, seconds=3)
