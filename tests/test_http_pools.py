"""The connections that an adapter keeps: one pool for each origin, found again without a search."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
import requests

from cb.http import DeadlineAdapter

from .misbehaving import Server


@pytest.fixture
def servers() -> Iterator[list[Server]]:
    with ExitStack() as stack:
        yield [stack.enter_context(running) for running in (_Running() for _ in range(4))]


class _Running(Server):
    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def session(**options: int) -> requests.Session:
    session = requests.Session()
    session.trust_env = False
    session.mount("http://", DeadlineAdapter(**options))
    return session


def test_requests_to_one_origin_share_a_connection_whatever_their_path(servers: list[Server]) -> None:
    with session() as ours:
        for path in ("", "/", "/a", "/b?c=d"):
            ours.get(servers[0].url + path)

    assert servers[0].connections == 1


def test_more_origins_than_pools_are_all_served_again_and_again(servers: list[Server]) -> None:
    with session(pool_connections=2) as ours:
        answers = [ours.get(server.url).status_code for _ in range(3) for server in servers]
        kept = len(ours.get_adapter("http://")._pools)  # type: ignore[attr-defined]  # noqa: SLF001 - must not grow

    assert answers == [200] * 12
    assert kept <= 2


def test_session_that_was_closed_connects_anew(servers: list[Server]) -> None:
    ours = session()
    ours.get(servers[0].url)
    ours.close()

    assert ours.get(servers[0].url).status_code == 200
    assert servers[0].connections == 2


def test_request_through_a_proxy_goes_to_the_proxy(servers: list[Server]) -> None:
    with session() as ours:
        ours.get(servers[0].url)
        ours.get(servers[0].url, proxies={"http": servers[1].url})

    assert (len(servers[0].requests), len(servers[1].requests)) == (1, 1)
