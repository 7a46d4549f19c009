"""A server that is flooded with messages, evicts scripts, forbids commands, or is not a Redis server."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import redis

from cb import CircuitBreaker, State
from cb.fleet.connection import FleetError
from cb.fleet.server import MAX_MESSAGES, RESUBSCRIBE_SECONDS
from cb.fleet.server import Server as Connection
from tests.fleet.by_hand import CONFIG, Clock, Host, pause
from tests.fleet.hosts import all_in, everyone, hosts, together
from tests.fleet.inside import fail as fail_there
from tests.support.failing import fail
from tests.support.redis_servers import Server
from tests.support.waiting import until

CHANNEL = "cb:f:changes"


@contextmanager
def goes_on(work: Callable[[], object]) -> Iterator[None]:
    """Run a function repeatedly in a thread during the block."""
    end = threading.Event()

    def run() -> None:
        while not end.wait(0.001):
            with suppress(redis.RedisError):
                work()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()


def publish(server: Server, messages: int, data: str | bytes = "d") -> None:
    pipeline = server.client.pipeline(transaction=False)
    for _ in range(messages):
        pipeline.publish(CHANNEL, data)
    pipeline.execute()


@pytest.mark.parametrize("data", ["d", b"\xff" * 200])
def test_flood_of_messages_ends_the_subscription_for_a_while(data: str | bytes, valkey: Server) -> None:
    connection = Connection(valkey.url, "f")
    assert connection.changed(0.01) is None  # before the subscription, messages may have been missed
    assert connection.changed(0.05) == set()
    publish(valkey, MAX_MESSAGES + 1, data)
    assert connection.changed(0.05) is None
    begin = time.monotonic()
    assert connection.changed(0.05) == set()
    assert 0.04 < time.monotonic() - begin < 0.5
    pause(RESUBSCRIBE_SECONDS)
    assert connection.changed(0.01) is None
    publish(valkey, 2, "d")
    until(lambda: connection.changed(0.1) == {"d"}, seconds=1)
    connection.close()


def test_hosts_open_and_follow_an_operator_while_the_channel_is_flooded(
    valkey: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with hosts(tmp_path, [valkey.url] * 2) as made, goes_on(lambda: publish(valkey, 2 * MAX_MESSAGES)):
        together(everyone(made), fail_there, 6)
        all_in(State.OPEN, made, 5)
        made[0].hold(State.FORCED_OPEN)
        all_in(State.FORCED_OPEN, made, 5)


def test_continuous_notifications_of_a_breaker_are_not_each_answered(valkey: Server) -> None:
    host = Host(valkey)
    host.agent.run_once()
    before, end, turns = valkey.runs("evalsha"), time.monotonic() + 1, 0
    while time.monotonic() < end:
        publish(valkey, 3)
        host.agent.run_once()
        turns += 1
    # Two at once and one regular report in each tenth of a second, and heartbeats.
    assert turns > 45 and valkey.runs("evalsha") - before < 45


def test_server_that_evicts_its_scripts_at_once_has_no_effect(server: Server) -> None:
    made = [Host(server), Host(server)]
    with goes_on(server.client.script_flush):
        for number in range(40):
            host = made[number % 2]
            host.succeed()
            host.agent.run_once()
            assert not host.unreachable
    assert all(host.connected for host in made)


def user(server: Server, *rules: str) -> str:
    """Return the URL of a user with all permissions, modified by the rules."""
    server.client.execute_command("ACL", "SETUSER", "u", "reset", "on", ">p", "+@all", "allkeys", "allchannels", *rules)
    return server.url.replace("//", "//u:p@")


@pytest.mark.parametrize(
    ("rules", "connected"),
    [
        (("-subscribe",), True),
        (("resetchannels", "&x"), True),  # the script cannot notify others either, which poll
        (("-eval",), True),
        (("-script",), True),
        (("-zcard",), False),
        (("-time",), False),
        (("-hset",), False),
        (("-evalsha",), False),
    ],
)
def test_host_with_limited_permissions_reports_if_it_is_connected(
    rules: tuple[str, ...], connected: bool, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    host = Host(user(server, *rules))
    with suppress(FleetError):
        for _ in range(3):
            host.agent.run_once()
    assert host.connected is connected
    assert len(caplog.records) <= 3


def test_subscription_that_is_closed_repeatedly_does_not_affect_the_fleet(valkey: Server) -> None:
    made = [Host(valkey), Host(valkey)]
    with goes_on(lambda: valkey.client.client_kill_filter(_type="pubsub")):
        for host in (*made, *made):
            host.agent.run_once()
        for host in made:
            host.fail(2)
        for host in (*made, *made):
            host.sync()
    assert [(host.state, host.breaker.snapshot().source) for host in made] == [(State.OPEN, "fleet")] * 2


def test_breaker_with_forbidden_keys_does_not_affect_others(server: Server) -> None:
    url = user(server, "resetkeys", "~cb:{f/fine}*", "~cb:{f}*")
    made = [Host(url), Host(url)]
    fine = [CircuitBreaker("fine", CONFIG, ledger=host.ledger) for host in made]
    for host, breaker in zip(made, fine, strict=True):
        fail(breaker, 2)
        host.sync("fine")
    for host in made:
        host.sync("fine")
    assert {breaker.snapshot().source for breaker in fine} == {"fleet"}
    assert all(host.connected and host.unreachable == ("d",) for host in made)


@pytest.mark.parametrize(
    ("setting", "value"), [("maxmemory", "1"), ("min-replicas-to-write", "1")], ids=["out of memory", "no replica"]
)
def test_host_of_a_read_only_server_is_not_connected(setting: str, value: str, server: Server) -> None:
    host = Host(server, clock=(clock := Clock()))
    host.agent.run_once()
    assert host.connected
    server.client.config_set(setting, value)
    with pytest.raises(FleetError):
        for _ in range(3):
            clock.advance(1.05)
            host.agent.run_once()
    assert not host.connected


@contextmanager
def speaker(answer: bytes) -> Iterator[str]:
    """Run a server that sends the same bytes for every command. Yield its URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def speak(connection: socket.socket) -> None:
            with connection, suppress(OSError):
                while connection.recv(65_536):
                    connection.sendall(answer)

        def accept() -> None:
            with suppress(OSError):
                while True:
                    threading.Thread(target=speak, args=(listener.accept()[0],), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield f"redis://127.0.0.1:{listener.getsockname()[1]}?protocol=2"
        listener.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize(
    "answer",
    [
        *(
            b"+OK\r\n",
            b"$-1\r\n",
            b":1\r\n",
            b":-5\r\n",
            b":99999999999999999999\r\n",
            b"*-1\r\n",
            b"*2\r\n:1\r\n$1\r\nx\r\n",
        ),
        *(
            b"$2\r\n{}\r\n",
            b"$5\r\nab",
            b"$3\r\n\xff\xfe\x00\r\n",
            b"*1\r\n" * 50,
            b"*1000000\r\n",
            b"$-5\r\n",
            b":x\r\n",
        ),
        *(
            b"-ERR no\r\n",
            b"-NOSCRIPT No\r\n",
            b"-BUSY Redis is busy\r\n",
            b"-LOADING it\r\n",
            b"-NOAUTH x\r\n",
            b"-\r\n",
        ),
        *(
            b"-MOVED 1 127.0.0.1:1\r\n",
            b"-READONLY You\r\n",
            b"-MISCONF x\r\n",
            b"-OOM x\r\n",
            b"HTTP/1.1 400 Bad\r\n\r\n",
        ),
        *(b"\x00\xff", b"%2\r\n", b"_\r\n", b"\r\n", b"*3\r\n$7\r\nmessage\r\n:1\r\n:2\r\n"),
    ],
)
def test_server_that_is_not_redis_raises_fleet_error_only_and_is_not_connected(answer: bytes) -> None:
    with speaker(answer) as url, suppress(FleetError):
        host = Host(url)
        for _ in range(3):
            host.agent.run_once()
        assert not host.connected
