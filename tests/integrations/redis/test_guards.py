"""Guarded clients: what is guarded with them, and what is not."""

import asyncio
import gc
import os
import signal
import threading
import weakref
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio
import redis.cluster
from redis.backoff import NoBackoff
from redis.retry import Retry

from cb import Bulkhead, BulkheadFullError, CircuitBreaker, CircuitOpenError, ConfigError, Ledger
from cb.integrations.redis import guard_redis, unguard_redis
from tests.integrations.redis.clients import CONFIG, MODULES, Client, counted
from tests.support.redis_servers import BINARIES, Server, free_port
from tests.support.waiting import until


def test_open_circuit_rejects_commands_pipelines_and_subscriptions_that_connect(
    client: Client, breaker: CircuitBreaker
) -> None:
    subscription = client.subscription()
    breaker.control.force_open(reason="test")
    for work in (
        lambda c: c.get("a"),
        lambda c: c.pipeline().get("a").execute(),
        lambda c: c.pipeline().watch("a"),
        lambda c: c.json().pipeline().get("a").execute(),
        lambda c: c.blpop("a", timeout=1),
        lambda _: subscription.subscribe("news"),
        lambda c: c.register_script("return 1")(),
        lambda c: c.lock("a").acquire(),
    ):
        with pytest.raises(CircuitOpenError):
            client.do(work)
    assert counted(breaker) == (0, 0, 0)


def test_retries_of_the_client_are_part_of_one_call(breaker: CircuitBreaker) -> None:
    with redis.Redis(port=free_port(), retry=Retry(NoBackoff(), 2)) as client:
        guard_redis(client, breaker)
        for _ in range(3):
            with pytest.raises(redis.ConnectionError):
                client.get("a")
        with pytest.raises(CircuitOpenError):
            client.get("a")
    assert counted(breaker) == (0, 3, 0)


def test_bulkhead_limits_the_commands_that_run(store: Server, breaker: CircuitBreaker) -> None:
    client = Client("sync", store.port, socket_timeout=5)
    guard_redis(client.raw, Bulkhead(breaker, 1))
    waiter = threading.Thread(target=client.raw.blpop, args=("queue",), kwargs={"timeout": 3})
    waiter.start()
    until(lambda: store.client.info("clients")["blocked_clients"] == 1)
    with pytest.raises(BulkheadFullError):
        client.raw.get("a")
    store.client.rpush("queue", "item")
    waiter.join()
    assert client.raw.transaction(lambda pipe: pipe.multi() or pipe.get("a"), "a") == [None]
    assert counted(breaker) == (3, 0, 0)
    client.close()


def test_client_with_a_connection_of_its_own_is_guarded(client: Client, breaker: CircuitBreaker) -> None:
    single = client.do(lambda c: c.client())
    assert client.do(lambda _: single.ping())
    assert counted(breaker)[1:] == (0, 0)
    breaker.control.force_open(reason="test")
    with pytest.raises(CircuitOpenError):
        client.do(lambda _: single.ping())
    client.end(single)


def test_other_client_of_the_pool_is_not_guarded(store: Server, breaker: CircuitBreaker) -> None:
    client = Client("sync", store.port)
    with redis.Redis(connection_pool=client.raw.connection_pool) as other:
        guard_redis(client.raw, breaker)
        breaker.control.force_open(reason="test")
        assert other.ping()
        assert type(other) is redis.Redis and isinstance(client.raw, redis.Redis)
        with pytest.raises(CircuitOpenError):
            client.raw.ping()
    client.close()


def test_same_guard_twice_counts_once_and_another_one_is_refused(client: Client, breaker: CircuitBreaker) -> None:
    guard_redis(client.raw, breaker)
    with pytest.raises(ConfigError, match="unguard_redis"):
        guard_redis(client.raw, Bulkhead(breaker, 1))
    client.do(lambda c: c.ping())
    assert counted(breaker) == (1, 0, 0)


def test_unguarded_client_is_as_before(client: Client, breaker: CircuitBreaker) -> None:
    breaker.control.force_open(reason="test")
    unguard_redis(client.raw)
    unguard_redis(client.raw)
    assert client.do(lambda c: c.ping())
    assert type(client.raw) is MODULES[client.kind].Redis
    guard_redis(client.raw, Bulkhead(breaker, 1))
    with pytest.raises(CircuitOpenError):
        client.do(lambda c: c.ping())


def test_what_is_no_client_is_refused(store: Server, breaker: CircuitBreaker) -> None:
    pool = redis.ConnectionPool(port=store.port)
    sentinel = redis.Sentinel([("127.0.0.1", store.port)])
    with redis.Redis(port=store.port) as client:
        others: tuple[Any, ...] = (pool, sentinel, client.pipeline(), client.pubsub(), client.json(), redis.Redis, None)
        for other in others:
            with pytest.raises(TypeError, match="is no Redis or RedisCluster"):
                guard_redis(other, breaker)
        with pytest.raises(ConfigError):
            guard_redis(client, "breaker")  # type: ignore[arg-type]  # a name in place of the breaker
        with pytest.raises(TypeError, match="master_for"):
            guard_redis(others[1], breaker)
        assert type(client) is redis.Redis


def test_guarded_client_is_collected(store: Server, breaker: CircuitBreaker) -> None:
    client = redis.Redis(port=store.port)
    guard_redis(client, breaker)
    client.ping()
    gone = weakref.ref(client)
    gc.disable()
    try:
        del client
        assert gone() is None  # at once, and not in a garbage collection: its connections are closed with it
    finally:
        gc.enable()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork")
def test_guarded_client_works_in_a_forked_child(store: Server, tmp_path: Path) -> None:
    breaker = CircuitBreaker("redis", CONFIG, ledger=Ledger.in_file(tmp_path / "l"))
    client = Client("sync", store.port)
    guard_redis(client.raw, breaker)
    client.raw.ping()
    pid = os.fork()
    if pid == 0:
        signal.alarm(10)
        client.raw.ping()
        breaker.control.force_open(reason="test")
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    with pytest.raises(CircuitOpenError):
        client.raw.ping()
    assert counted(breaker) == (2, 0, 0)
    client.close()


def test_client_of_a_cluster_is_guarded(tmp_path: Path, breaker: CircuitBreaker) -> None:
    async def use(port: int) -> None:
        async with redis.asyncio.RedisCluster(host="127.0.0.1", port=port) as client:
            guard_redis(client, breaker)
            await client.set("a", 1)
            assert await client.pipeline().get("a").incr("a").execute() == [b"1", 2]
            breaker.control.force_open(reason="test")
            for refused in (client.get("a"), client.pipeline().get("a").execute()):
                with pytest.raises(CircuitOpenError):
                    await refused

    options = ("--cluster-enabled", "yes", "--cluster-port", str(free_port()))
    with Server(BINARIES["valkey"], tmp_path / "node", *options) as node:
        node.client.execute_command("CLUSTER ADDSLOTSRANGE", 0, 16383)
        until(lambda: node.client.cluster("INFO")["cluster_state"] == "ok", seconds=15)
        asyncio.run(use(node.port))
        assert counted(breaker) == (2, 0, 0)
        client = redis.cluster.RedisCluster(host="127.0.0.1", port=node.port)
    guard_redis(client, breaker)
    with pytest.raises(CircuitOpenError):
        client.pipeline().get("a").execute()
    breaker.control.reset(reason="test")
    for _ in range(3):
        with pytest.raises((redis.RedisError, redis.exceptions.RedisClusterException)):
            client.pipeline().get("a").incr("a").execute()
    with pytest.raises(CircuitOpenError):
        client.get("a")
    assert counted(breaker)[1] == 3
    client.close()
