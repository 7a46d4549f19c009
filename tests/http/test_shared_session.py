"""A session that all users of a service share: nothing of one user's call reaches the next, unless asked for."""

import copy
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests

from cb import CircuitBreaker, Registry
from cb.http import CircuitBreakerAdapter, HTTPClient, guarded_session
from tests.support.misbehaving import Server, answer

SETS_COOKIE = answer(200, "{}", "Set-Cookie: session=alice; Path=/")
Send = Callable[[requests.Session, str], requests.Response]

WAYS: dict[str, Send] = {
    "get": lambda session, url: session.get(url),
    "post": lambda session, url: session.post(url, data="a"),
    "request": lambda session, url: session.request("PUT", url),
    "prepared": lambda session, url: session.send(requests.Request("GET", url).prepare()),
    "prepared by the session": lambda session, url: session.send(session.prepare_request(requests.Request("GET", url))),
    "streamed": lambda session, url: session.get(url, stream=True),
    "with cookies of the call": lambda session, url: session.get(url, cookies={"mine": "1"}),
}


@pytest.fixture
def session(server: Server) -> Iterator[requests.Session]:
    with guarded_session(Registry(), timeout=5) as session:
        yield session


def cookies(request: str) -> list[str]:
    lines = [line.partition(": ")[2] for line in request.split("\r\n") if line.lower().startswith("cookie:")]
    return sorted(each for line in lines for each in line.split("; "))


def redirect_once(server: Server, *headers: str) -> None:
    """Have a server redirect its next request to itself."""

    def act(connection: Any) -> None:
        server.act = answer(200, "{}")
        answer(302, "", "Location: /next", *headers)(connection)

    server.act = act


@pytest.mark.parametrize("way", WAYS)
def test_cookie_of_one_call_is_not_sent_with_the_next(server: Server, session: requests.Session, way: str) -> None:
    server.act = SETS_COOKIE
    assert WAYS[way](session, server.url).cookies["session"] == "alice"
    session.get(server.url)
    assert cookies(server.requests[-1]) == []
    assert len(session.cookies) == 0


@pytest.mark.parametrize("travel", [lambda it: pickle.loads(pickle.dumps(it)), copy.copy, copy.deepcopy])
def test_copy_of_a_session_keeps_no_cookies_either(
    server: Server, session: requests.Session, travel: Callable[[Any], Any]
) -> None:
    session.cookies.set("app", "shop")
    other = travel(session)
    server.act = SETS_COOKIE
    for _ in range(2):
        other.get(server.url)
    assert cookies(server.requests[-1]) == ["app=shop"]


def test_cookies_that_the_caller_sets_are_sent(server: Server, session: requests.Session) -> None:
    session.cookies.set("app", "shop")
    session.get(server.url, cookies={"user": "ann"})
    session.get(server.url)
    assert [cookies(request) for request in server.requests] == [["app=shop", "user=ann"], ["app=shop"]]


def test_cookies_of_a_call_last_for_its_redirects(server: Server, session: requests.Session) -> None:
    redirect_once(server, "Set-Cookie: step=1; Path=/")
    session.get(server.url, cookies={"user": "ann"}, allow_redirects=True)
    session.get(server.url)
    assert [cookies(each) for each in server.requests] == [["user=ann"], ["step=1", "user=ann"], []]


def test_session_with_cookies_sends_those_of_responses(server: Server) -> None:
    server.act = SETS_COOKIE
    with guarded_session(Registry(), timeout=5, cookies=True) as session:
        session.get(server.url)
        for travel in (copy.copy, lambda it: pickle.loads(pickle.dumps(it))):
            travel(session).get(server.url)
    assert [cookies(request) for request in server.requests] == [[], ["session=alice"], ["session=alice"]]


def test_jar_that_the_caller_assigns_keeps_cookies(server: Server, session: requests.Session) -> None:
    session.cookies = requests.cookies.RequestsCookieJar()
    server.act = SETS_COOKIE
    for _ in range(2):
        session.get(server.url)
    assert cookies(server.requests[-1]) == ["session=alice"]


def test_headers_and_password_of_one_call_are_not_sent_with_the_next(server: Server, session: requests.Session) -> None:
    redirect_once(server)
    session.get(server.url, auth=("ann", "secret"), headers={"X-User": "ann"}, allow_redirects=True)
    session.get(server.url.replace("//", "//bob:secret@"))
    session.get(server.url)
    assert ["Authorization" in each for each in server.requests] == [True, True, True, False]
    assert ["X-User" in each for each in server.requests] == [True, True, False, False]
    assert (session.auth, "Authorization" in session.headers) == (None, False)


def test_cookie_is_not_sent_with_the_next_call_of_a_client(server: Server) -> None:
    server.act = SETS_COOKIE
    with HTTPClient(server.url, 5, CircuitBreaker("d")) as client:
        for _ in range(2):
            client.get_json("/a")
    assert cookies(server.requests[-1]) == []


def test_cookie_jar_of_a_session_of_the_caller_is_left_alone(server: Server, session: requests.Session) -> None:
    server.act = SETS_COOKIE
    with requests.Session() as plain:
        plain.trust_env = False
        plain.mount("http://", CircuitBreakerAdapter(Registry()))
        for _ in range(2):
            plain.get(server.url)
    assert cookies(server.requests[-1]) == ["session=alice"]
