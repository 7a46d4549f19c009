"""Outcomes of commands and pipelines: the table of docs/integrations/redis.md."""

from contextlib import suppress

import pytest
import redis.asyncio
import redis.cluster

from cb import CircuitBreaker
from cb.integrations.redis import guard_redis
from tests.integrations.redis.clients import Client, counted
from tests.support.redis_servers import Server


def test_command_is_a_call(client: Client, breaker: CircuitBreaker) -> None:
    assert client.do(lambda c: c.set("a", 1)) is True
    assert client.do(lambda c: c.get("a")) == b"1"
    assert counted(breaker) == (2, 0, 0)


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        ("LOADING the data set", (0, 1, 0)),
        ("READONLY You can't write against a read only replica.", (0, 1, 0)),
        ("CLUSTERDOWN Hash slot not served", (0, 1, 0)),
        ("MASTERDOWN Link with MASTER is down", (0, 1, 0)),
        ("TRYAGAIN Multiple keys request during rehashing of slot", (0, 1, 0)),
        ("BUSY The server is busy running a script.", (0, 1, 0)),
        ("NOAUTH Authentication required.", (0, 1, 0)),
        ("ERR max number of clients reached", (0, 1, 0)),
        ("ERR unknown command", (1, 0, 0)),
        ("WRONGTYPE Operation against a key", (1, 0, 0)),
        ("BUSYGROUP Consumer Group name already exists", (1, 0, 0)),
        ("BUSYKEY Target key name already exists.", (1, 0, 0)),
        ("NOSCRIPT No matching script.", (1, 0, 0)),
        ("NOPERM User has no permissions", (1, 0, 0)),
        ("OOM command not allowed when used memory > 'maxmemory'.", (1, 0, 0)),
        ("MISCONF the snapshot cannot be written", (1, 0, 0)),
        ("MY own error", (1, 0, 0)),
    ],
)
def test_error_of_the_server_is_a_failure_if_it_can_serve_nobody(
    client: Client, breaker: CircuitBreaker, reply: str, outcome: tuple[int, int, int]
) -> None:
    script = "return redis.error_reply(ARGV[1])"
    with pytest.raises(redis.RedisError):
        client.do(lambda c: c.eval(script, 0, reply))
    assert counted(breaker) == outcome
    with pytest.raises(redis.RedisError):
        client.do(lambda c: c.pipeline(transaction=False).eval(script, 0, reply).execute())
    with suppress(redis.ConnectionError):  # which ends a pipeline
        client.do(lambda c: c.pipeline(transaction=False).eval(script, 0, reply).execute(raise_on_error=False))
    assert counted(breaker) == tuple(3 * number for number in outcome)


def test_argument_that_cannot_be_sent_is_no_outcome(client: Client, breaker: CircuitBreaker) -> None:
    with pytest.raises(redis.DataError):
        client.do(lambda c: c.set("a", object()))
    assert counted(breaker) == (0, 0, 1)


def test_error_of_a_response_callback_is_no_outcome(client: Client, breaker: CircuitBreaker) -> None:
    client.raw.set_response_callback("GET", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        client.do(lambda c: c.get("a"))
    assert counted(breaker) == (0, 0, 1)


def test_pipeline_is_one_call_and_an_empty_one_none(client: Client, breaker: CircuitBreaker) -> None:
    assert client.do(lambda c: c.pipeline().set("a", 1).incr("a").get("a").execute()) == [True, 2, b"2"]
    assert client.do(lambda c: c.pipeline(transaction=False).get("a").execute()) == [b"2"]
    assert client.do(lambda c: c.pipeline().execute()) == []
    assert counted(breaker) == (2, 0, 0)


def test_lost_race_of_a_transaction_is_a_success(client: Client, breaker: CircuitBreaker, store: Server) -> None:
    pipeline = client.raw.pipeline()
    client.do(lambda _: pipeline.watch("a"))
    store.client.set("a", "changed")
    pipeline.multi()
    with pytest.raises(redis.WatchError):
        client.do(lambda _: pipeline.get("a").execute())
    assert counted(breaker) == (2, 0, 0)


def test_connection_lost_in_a_transaction_is_a_failure(client: Client, breaker: CircuitBreaker, store: Server) -> None:
    pipeline = client.raw.pipeline()
    client.do(lambda _: pipeline.watch("a"))
    store.client.execute_command("CLIENT KILL", "TYPE", "normal", "SKIPME", "yes")
    with pytest.raises((redis.WatchError, redis.ConnectionError)):
        client.do(lambda _: pipeline.get("a"))
    assert counted(breaker) == (1, 1, 0)
    client.do(lambda _: pipeline.reset())


def test_messages_are_no_calls_and_a_lost_connection_is_a_failure(
    client: Client, breaker: CircuitBreaker, store: Server
) -> None:
    subscription = client.subscription()
    client.do(lambda _: subscription.subscribe("news"))
    assert counted(breaker) == (1, 0, 0)  # it has connected
    client.do(lambda _: subscription.get_message(timeout=1))
    store.client.publish("news", "hello")
    assert client.do(lambda _: subscription.get_message(timeout=1))["data"] == b"hello"
    assert client.do(lambda _: subscription.get_message(timeout=0.01)) is None
    client.do(lambda _: subscription.subscribe("sport"))
    assert counted(breaker) == (1, 0, 0)
    store.client.execute_command("CLIENT KILL", "TYPE", "pubsub")
    with pytest.raises(redis.ConnectionError):
        for _ in range(3):
            client.do(lambda _: subscription.get_message(timeout=0.2))
    assert counted(breaker) == (1, 1, 0)


def test_pool_without_a_connection_is_a_failure(store: Server, breaker: CircuitBreaker) -> None:
    client = Client("sync", store.port, max_connections=1)
    guard_redis(client.raw, breaker)
    with client.raw.pipeline() as other:
        other.watch("a")
        with pytest.raises(redis.ConnectionError):
            client.raw.get("a")
    assert counted(breaker) == (1, 1, 0)
    client.close()
