"""Commands that wait or hang, messages, and tasks that are cancelled."""

import asyncio
import gc
import threading
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from typing import Any

import pytest
import redis.asyncio
import redis.cluster

from cb import Bulkhead, CircuitBreaker, State
from cb.integrations.redis import guard_redis
from tests.integrations.redis.clients import Client, counted
from tests.support.interruptions import interrupted
from tests.support.redis_servers import Server
from tests.support.waiting import until

pytestmark = pytest.mark.quiet


def test_wait_that_the_server_was_asked_for_is_not_slow(client: Client, breaker: CircuitBreaker) -> None:
    assert client.do(lambda c: c.blpop("nothing", timeout=0.25)) is None
    assert client.do(lambda c: c.xread({"nothing": "$"}, block=250)) in ([], {}, None)
    assert counted(breaker) == (2, 0, 0)
    assert breaker.snapshot().totals.slow == 0


def test_command_that_hangs_is_slow_and_a_failure(client: Client, breaker: CircuitBreaker, store: Server) -> None:
    client.give_up_after(0.3)
    client.do(lambda c: c.ping())
    store.stop()
    with pytest.raises(redis.TimeoutError):
        client.do(lambda c: c.get("a"))
    with pytest.raises(redis.TimeoutError):  # which the server was to end by now
        client.do(lambda c: c.blpop("nothing", timeout=0.1))
    assert counted(breaker) == (1, 2, 0)
    assert breaker.snapshot().totals.slow == 1


def test_socket_timeout_below_the_wait_of_a_command_is_no_outcome(client: Client, breaker: CircuitBreaker) -> None:
    client.give_up_after(0.2)
    with pytest.raises(redis.TimeoutError):
        client.do(lambda c: c.blpop("nothing", timeout=0))
    assert counted(breaker) == (0, 0, 1)


def test_probe_of_a_command_that_waits_is_a_ping(client: Client, breaker: CircuitBreaker) -> None:
    for _ in range(3):
        breaker.begin().fail(redis.ConnectionError())
    until(lambda: not breaker.snapshot().retry_after)
    states: list[State] = []
    watcher = threading.Timer(0.15, lambda: states.append(breaker.state))
    watcher.start()
    client.do(lambda c: c.blpop("nothing", timeout=0.3))
    watcher.join()
    assert states == [State.CLOSED]
    assert counted(breaker) == (1, 3, 0)


def test_early_cancellation_is_no_outcome_and_a_late_one_a_slow_failure(store: Server, breaker: CircuitBreaker) -> None:
    async def cancelled_after(seconds: float) -> None:
        async with redis.asyncio.Redis(port=store.port, socket_timeout=5) as client:
            guard_redis(client, breaker)
            await client.ping()
            store.stop()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(seconds):
                    await client.get("a")
            store.resume()

    asyncio.run(cancelled_after(0.05))
    assert counted(breaker) == (1, 0, 1)
    asyncio.run(cancelled_after(0.3))
    assert counted(breaker) == (2, 1, 1)


def test_cancelled_wait_for_messages_or_items_is_no_failure(store: Server, breaker: CircuitBreaker) -> None:
    async def cancel_both() -> None:
        async with redis.asyncio.Redis(port=store.port) as client:
            guard_redis(client, breaker)
            async with client.pubsub() as subscription:
                await subscription.subscribe("news")
                await subscription.get_message(timeout=1)
                for wait in (subscription.get_message(timeout=None), client.blpop("nothing")):
                    task = asyncio.create_task(wait)
                    await asyncio.sleep(0.3)
                    task.cancel()
                    with pytest.raises(asyncio.CancelledError):
                        await task

    asyncio.run(cancel_both())
    assert counted(breaker)[1] == 0


def test_loop_runs_on_while_tasks_wait_for_a_permit_of_the_bulkhead(store: Server, breaker: CircuitBreaker) -> None:
    async def crowd() -> float:
        longest, done = 0.0, asyncio.Event()

        async def watch() -> None:
            nonlocal longest
            loop = asyncio.get_running_loop()
            while not done.is_set():
                begun = loop.time()
                await asyncio.sleep(0)
                longest = max(longest, loop.time() - begun)

        async with redis.asyncio.Redis(port=store.port) as client:
            guard_redis(client, Bulkhead(breaker, 2, wait=20))
            watcher = asyncio.create_task(watch())
            await asyncio.gather(*(client.eval("return 1", 0) for _ in range(100)))
            done.set()
            await watcher
        return longest

    assert asyncio.run(crowd()) < 0.15  # a thread would wait for all the others
    assert counted(breaker) == (100, 0, 0)


# Of an interruption between the creation of a coroutine and its start, Python itself warns.
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:.*<coroutine object:pytest.PytestUnraisableExceptionWarning")
def test_interruption_between_any_two_steps_leaves_no_call_behind_and_the_client_guarded(
    client: Client, breaker: CircuitBreaker, store: Server
) -> None:
    store.client.set("text", "")
    works: list[Callable[[Any], Any]] = [
        lambda c: c.get("a"),
        lambda c: c.pipeline().get("a").execute(),
        lambda c: c.blpop("text", timeout=1),
    ]
    client.do(works[0])
    for work in works:

        def attempt(work: Callable[[Any], Any] = work) -> None:
            with suppress(redis.ResponseError):  # a text is no list
                client.do(work)

        for number in count(1):
            more = interrupted(attempt, number)
            gc.collect(0)
            breaker.control.evaluate()
            before = sum(counted(breaker))
            client.do(works[0])
            assert sum(counted(breaker)) == before + 1, f"point {number}"
            if not more:
                break
        assert number > 30
    gc.collect()  # of coroutines that were not started, while the filter holds
