"""Connection pools of an adapter: one for each origin."""

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import requests

from cb.http import DeadlineAdapter
from tests.support.misbehaving import Server


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
        kept = len(ours.get_adapter("http://").poolmanager.pools)  # type: ignore[attr-defined]  # an attribute of requests

    assert answers == [200] * 12
    assert kept <= 2


def test_closed_session_connects_again(servers: list[Server]) -> None:
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


def test_evicted_pool_is_created_again(servers: list[Server], tmp_path: Path) -> None:
    certificate = tmp_path / "unused.pem"
    certificate.touch()
    with session(pool_connections=2) as ours:
        for server in servers[:2]:
            ours.get(server.url)
        ours.get(servers[2].url, cert=str(certificate))  # another lookup, the same number of pools

        assert [ours.get(server.url).status_code for server in servers[:2]] == [200, 200]


def test_address_of_an_unavailable_family_is_skipped(servers: list[Server], monkeypatch: pytest.MonkeyPatch) -> None:
    found = socket.getaddrinfo

    def with_another(*args: Any, **options: Any) -> list[Any]:
        return [(12_345, socket.SOCK_STREAM, 0, "", ("::1", 1)), *found(*args, **options)]

    monkeypatch.setattr(socket, "getaddrinfo", with_another)
    with session() as ours:
        assert ours.get(servers[0].url).status_code == 200


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_forked_child_opens_new_connections_and_leaves_the_parents_open(servers: list[Server]) -> None:
    with session() as ours:
        ours.get(servers[0].url)
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                status = int(ours.get(servers[0].url).status_code != 200)
            finally:
                os._exit(status)
        assert os.waitpid(pid, 0)[1] == 0
        ours.get(servers[0].url)

    assert servers[0].connections == 2
