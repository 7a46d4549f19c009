"""Errors of the caller in an HTTP request, told apart from failures of the dependency."""

import ssl
from collections.abc import Callable, Iterator
from http.client import HTTPException
from typing import Any, Protocol, Self

from requests.exceptions import InvalidHeader, RequestException, UnrewindableBodyError
from urllib3.exceptions import HTTPError, NewConnectionError

from cb.state.outcome import is_interruption

#: errors that a dependency or the network may cause
_DEPENDENCY_ERRORS = (RequestException, HTTPError, HTTPException, OSError)
#: libraries of OpenSSL that read files: certificates, keys, bundles
_FILE_LIBRARIES = {"PEM", "X509"}


def is_caller_error(error: BaseException) -> bool:
    """Return True if an exception comes from the caller's own code, arguments or files, not from the dependency.

    A ValueError is about a URL, a header or another argument that cannot be sent. An InvalidHeader is about the
    response: one of the request is raised before a breaker is involved.
    """
    if is_interruption(error) or isinstance(error, InvalidHeader):
        return False
    if isinstance(error, ValueError | UnrewindableBodyError) or not isinstance(error, _DEPENDENCY_ERRORS):
        return True
    return _is_certificate_error(error)


def _is_certificate_error(error: BaseException) -> bool:
    """Return True if requests did not find a file of a certificate or a key, or OpenSSL could not read it."""
    if type(error) is OSError and error.errno is None:
        return True
    return isinstance(error, FileNotFoundError) or any(map(_is_file_error, _wrapped(error)))


def _is_file_error(error: BaseException) -> bool:
    if isinstance(error, ssl.SSLError):
        return error.library in _FILE_LIBRARIES or "PEM lib" in str(error)
    return isinstance(error, PermissionError | IsADirectoryError)


def _wrapped(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and those that requests and urllib3 have wrapped in it.

    Its context is excluded: a request may be sent while another exception is being handled.
    """
    pending, seen = [error], {id(error)}
    while pending:
        each = pending.pop()
        if isinstance(each, NewConnectionError):  # its PermissionError is a firewall's, not a file's
            continue
        yield each
        for inner in (*each.args, getattr(each, "reason", None), each.__cause__):
            if isinstance(inner, BaseException) and id(inner) not in seen:
                seen.add(id(inner))
                pending.append(inner)


class Pausable(Protocol):
    """A timer that excludes the time of the caller."""

    def pause(self) -> object:
        """Stop counting until `resume`."""

    def resume(self) -> object:
        """Continue counting."""


class Upload:
    """A request body that is read while it is sent. It pauses timers during each read, and records a failed read."""

    def __init__(self, body: Any) -> None:
        self._body = body
        #: True after the caller's file or generator has raised an exception
        self.failed = False
        #: timers to pause during each read
        self.timers: list[Pausable] = []

    @classmethod
    def of(cls, body: Any) -> Self | None:
        """Return an upload for the body of a request, None if the body is in memory."""
        if body is None or isinstance(body, str | bytes):
            return None
        if not hasattr(body, "read"):
            try:
                memoryview(body)
            except TypeError:
                return cls(body) if hasattr(body, "__iter__") else None
            return None
        return cls(body)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._body, name)
        return self._timed(found) if name == "read" else found

    def __iter__(self) -> Iterator[Any]:
        step = self._timed(iter(self._body).__next__)
        while True:
            try:
                chunk = step()
            except StopIteration:
                return
            yield chunk

    def _timed(self, read: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any) -> Any:
            for timer in self.timers:
                timer.pause()
            try:
                data = read(*args)
                return data.encode() if isinstance(data, str) else data  # as urllib3 2 does
            except StopIteration:
                raise
            except BaseException:
                self.failed = True
                raise
            finally:
                for timer in self.timers:
                    timer.resume()

        return timed
