"""A breaker before the commands of a client of redis-py, synchronous or asynchronous.

A call is one command or one execution of a pipeline, with the wait for a connection and redis-py's own retries.
Clients of one server, of sentinels and of clusters are supported. docs/integrations/redis.md lists the outcomes.
"""

from typing import Any

from cb import ConfigError, Guard
from cb.extras import needs

with needs("redis", "redis"):
    import redis.asyncio
    import redis.asyncio.cluster
    import redis.cluster

from .guarded import GUARD, PIPELINES, ClientKind, put_guard, remove_guard

__all__ = ["guard_redis", "unguard_redis"]

_CLIENTS = (redis.Redis, redis.asyncio.Redis, redis.cluster.RedisCluster, redis.asyncio.cluster.RedisCluster)


def guard_redis(client: ClientKind, guard: Guard) -> None:
    """Admit each command of a client through a breaker, a bulkhead or a policy.

    A rejection raises CircuitOpenError or BulkheadFullError from the command, without a wait for the pool or the
    server. Pipelines, subscriptions, locks and scripts that the client makes from now on are guarded with it; other
    clients of its connection pool are not.

    Args:
        client: A client of redis-py. One that is guarded by the same guard stays so.
        guard: Breaker, bulkhead, or policy without retry, cache and fallback.

    Raises:
        TypeError: `client` is no such client.
        ConfigError: The client has another guard, or `guard` is none.
    """
    if not isinstance(client, _CLIENTS) or isinstance(client, PIPELINES):
        raise TypeError(f"{client!r} is no Redis or RedisCluster of redis or redis.asyncio{_hint(client)}")
    if not callable(getattr(guard, "begin", None)):
        raise ConfigError("guard", "be a CircuitBreaker, a Bulkhead or a Policy", guard)
    present = vars(client).get(GUARD, guard)
    if present is not guard:
        raise ConfigError("client", f"have one guard: call unguard_redis first, as {present!r} guards it", client)
    put_guard(client, guard)


def unguard_redis(client: ClientKind) -> None:
    """Remove the guard of a client, if it has one. What the client has made before keeps it.

    Args:
        client: The client.
    """
    remove_guard(client)


def _hint(client: Any) -> str:
    if isinstance(client, (redis.Sentinel, redis.asyncio.Sentinel)):
        return ": guard what its master_for and slave_for return"
    return ": guard the client before it makes pipelines" if isinstance(client, PIPELINES) else ""
