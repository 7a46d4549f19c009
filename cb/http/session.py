"""Sessions of requests that keep nothing from one call to the next, and follow and trust only what they are told to."""

import os
from collections.abc import Callable, Collection, Iterator, Mapping
from http.cookiejar import DefaultCookiePolicy
from typing import Any

import requests
from requests.adapters import BaseAdapter, HTTPAdapter
from requests.exceptions import (
    InvalidSchema,
    InvalidURL,
    MissingSchema,
    RequestException,
    SSLError,
    TooManyRedirects,
)
from requests.utils import get_environ_proxies, select_proxy

from cb import ConfigError, Duration, Guard, Registry

from .adapter import CircuitBreakerAdapter
from .messages import describe, is_described, is_of_connecting, target
from .responses import FAILURE_STATUSES
from .texts import redacted
from .timeouts import TIMEOUT, seconds


def guarded_session(
    guard: Registry | Guard,
    name: str | Callable[[requests.PreparedRequest], str] | None = None,
    *,
    timeout: Duration = TIMEOUT,
    max_body_bytes: int | None = None,
    failure_statuses: Collection[int] = FAILURE_STATUSES,
    follow_redirects: bool = False,
    cookies: bool = False,
    trust_env: bool = False,
    proxies: Mapping[str, str] | None = None,
    verify: bool | str | os.PathLike[str] = True,
) -> requests.Session:
    """Return a `requests.Session` whose requests all pass through breakers, as with a `CircuitBreakerAdapter`.

    It is safe for all users of a service, and differs from `requests.get` in four ways. Each is one argument:

    - it follows no redirect: `follow_redirects=True`, or `allow_redirects=True` in a call;
    - it uses no proxy and no .netrc of the environment: `trust_env=True`, or `proxies=`;
    - it uses no REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE: `trust_env=True`, or `verify=`;
    - it ends after 30 s, body included: `timeout=`.

    It keeps no cookies of responses, unlike a `requests.Session`: `cookies=True`. Nothing is retried. Close the session
    after use, as any session: it is a context manager.

    Args:
        guard: Registry of the breakers; or a breaker, a bulkhead, or a policy without retry, cache and fallback, for
            all requests.
        name: Name of the breaker in the registry, or a function of the request that returns it; by default each origin
            has one.
        timeout: Time limit for a request and its response, body included, in seconds or as a timedelta. The
            `timeout` of a call does not extend it. Each hop of a redirect has a limit of its own.
        max_body_bytes: Largest body of a response, in bytes after decompression; None for no limit.
        failure_statuses: Statuses that count as failures; responses with them are returned.
        follow_redirects: True to follow redirects, each hop through the breaker of its own host.
        cookies: True to send the cookies of a response with later calls, of all users of the session. Otherwise only
            those are sent that the caller sets; within one call, those of its redirects too.
        trust_env: True to use HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY, .netrc, REQUESTS_CA_BUNDLE and
            CURL_CA_BUNDLE, as requests does.
        proxies: Proxies by scheme, as in requests; they take precedence over those of the environment.
        verify: Path of a bundle of certificate authorities, which takes precedence over the environment; False to
            accept any certificate.

    Raises:
        ConfigError: A parameter is invalid.
    """
    limit = seconds("timeout", timeout)
    session = confined(
        CircuitBreakerAdapter(
            guard, name, timeout=limit, max_body_bytes=max_body_bytes, failure_statuses=failure_statuses
        ),
        cookies=cookies,
    )
    session.follow_redirects = follow_redirects
    session.trust_env = trust_env
    session.proxies = _checked_proxies(proxies)
    session.verify = _checked_verify(verify)
    return session


def confined(adapter: HTTPAdapter, *, cookies: bool = False) -> "GuardedSession":
    """Return a session whose requests all pass through an adapter, and which keeps cookies only on request."""
    session = GuardedSession()
    session.trust_env = False  # a proxy of the environment would get even the calls to 127.0.0.1
    if not cookies:
        # Callers share the session: a cookie set for one must not be sent for the next.
        session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=()))
    for scheme in ("http://", "https://"):
        session.mount(scheme, adapter)
    return session


class GuardedSession(requests.Session):
    """A session that follows no redirect by default: it may lead to another service behind the same firewall."""

    #: attributes to pickle, as in Session
    __attrs__ = (*requests.Session.__attrs__, "follow_redirects")
    #: True to follow redirects where a call does not decide
    follow_redirects = False

    def get(self, url: Any, *args: Any, **options: Any) -> requests.Response:
        return self.request("GET", url, *args, **options)

    def options(self, url: Any, **options: Any) -> requests.Response:
        return self.request("OPTIONS", url, **options)

    def request(self, *args: Any, **options: Any) -> requests.Response:
        return super().request(*args, **{"allow_redirects": self.follow_redirects, **options})

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        if self.trust_env and "verify" not in options:  # requests uses the bundle of the environment in `request` only
            options["verify"] = self.merge_environment_settings(request.url, {}, None, None, None)["verify"]
        try:
            return super().send(request, **{"allow_redirects": self.follow_redirects, **options})
        except TooManyRedirects as error:
            describe(error, target(request), f"more than {self.max_redirects} redirects")
            raise
        except RequestException as error:
            if is_described(error):
                error.request = error.request or request  # requests leaves both out of an error of the body
                error.__cause__ = error.__cause__ or error.args[0].__cause__
                if not self.trust_env:
                    _hint(error)
            raise

    def prepare_request(self, request: requests.Request) -> requests.PreparedRequest:
        try:
            return super().prepare_request(request)
        except (InvalidURL, MissingSchema, InvalidSchema) as error:
            _redact(error, request.url)
            raise

    def get_adapter(self, url: Any) -> BaseAdapter:
        try:
            return super().get_adapter(url)
        except InvalidSchema as error:
            _redact(error, url)
            raise

    def merge_environment_settings(self, url: Any, proxies: Any, stream: Any, verify: Any, cert: Any) -> Any:
        # In requests, the environment takes precedence over the settings of a session, though not over those of a call.
        proxies = {**self.proxies, **(proxies or {})}
        verify = self.verify if verify is None and self.verify is not True else verify
        return super().merge_environment_settings(url, proxies, stream, verify, cert)

    def resolve_redirects(self, *args: Any, **options: Any) -> Iterator[Any]:
        # To fill `Response.next`, requests reads the whole body of a redirect that is not followed, however large, and
        # raises for a Location that it cannot parse.
        return iter(()) if options.get("yield_requests") else super().resolve_redirects(*args, **options)


def _redact(error: RequestException, url: object) -> None:
    """Remove password and query of a URL from the text of an error."""
    if isinstance(url, str) and error.args and isinstance(error.args[0], str):
        error.args = (error.args[0].replace(url, redacted(url)),)


def _hint(error: RequestException) -> None:
    """Note that the environment has a proxy or certificates that a failed request did not use."""
    url = error.request.url if error.request is not None else None
    if isinstance(error, SSLError):
        unused = next((each for each in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE") if os.environ.get(each)), None)
    else:
        has_proxy = is_of_connecting(error) and url and select_proxy(url, get_environ_proxies(url))
        unused = "A proxy of the environment" if has_proxy else None
    if unused:
        error.add_note(f"{unused} was not used: create the session with guarded_session(trust_env=True) to use it.")


def _checked_proxies(proxies: Mapping[str, str] | None) -> dict[str, str]:
    rule = 'map schemes to URLs, as in {"https": "http://proxy.example.com:3128"}'
    if not isinstance(proxies, Mapping | None):
        raise ConfigError("proxies", rule, type(proxies).__name__)
    given = dict(proxies or {})
    if not all(isinstance(each, str) for pair in given.items() for each in pair):
        raise ConfigError("proxies", rule, sorted(map(str, given)))  # no URL: it may hold a password
    return given


def _checked_verify(verify: object) -> bool | str:
    if isinstance(verify, bool):
        return verify
    if isinstance(verify, str | os.PathLike) and (path := os.fspath(verify)) and isinstance(path, str):
        return path
    raise ConfigError("verify", "be True, False, or the path of a bundle of certificate authorities", verify)
