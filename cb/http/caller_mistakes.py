"""Mistakes of the caller in an exchange, told from failures of the dependency."""

import ssl
from collections.abc import Callable, Iterator
from http.client import HTTPException
from typing import Any, Protocol, Self

from requests.exceptions import InvalidHeader, RequestException, UnrewindableBodyError
from urllib3.exceptions import HTTPError, NewConnectionError

#: what a dependency or the network does to an exchange
_THEIRS = (RequestException, HTTPError, HTTPException, OSError)
#: parts of OpenSSL that read files: certificates, keys, bundles
_READS = {"PEM", "X509"}


def is_own(error: BaseException) -> bool:
    """Return whether an exception is of the caller's own code, arguments or files, without a part of the dependency.

    A ValueError is of a URL, a header or another argument that cannot be sent. An InvalidHeader is of the answer: one
    of the request is found before.
    """
    if not isinstance(error, Exception) or isinstance(error, InvalidHeader):
        return False
    if isinstance(error, ValueError | UnrewindableBodyError) or not isinstance(error, _THEIRS):
        return True
    return _of_files(error)


def _of_files(error: BaseException) -> bool:
    """Return whether a certificate or a key cannot be used: requests has not found it, or OpenSSL has not read it."""
    if type(error) is OSError and error.errno is None:
        return True
    return isinstance(error, FileNotFoundError) or any(map(_is_of_a_file, _wrapped(error)))


def _is_of_a_file(error: BaseException) -> bool:
    if isinstance(error, ssl.SSLError):
        return error.library in _READS or "PEM lib" in str(error)
    return isinstance(error, PermissionError | IsADirectoryError)


def _wrapped(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and those that requests and urllib3 have put into it.

    Not its context: a request may be sent where another exception is handled.
    """
    left, seen = [error], {id(error)}
    while left:
        each = left.pop()
        if isinstance(each, NewConnectionError):  # a firewall may forbid that, as a file may be forbidden
            continue
        yield each
        for inner in (*each.args, getattr(each, "reason", None), each.__cause__):
            if isinstance(inner, BaseException) and id(inner) not in seen:
                seen.add(id(inner))
                left.append(inner)


class Pausable(Protocol):
    """A measure of time that has no part in the time of the caller."""

    def pause(self) -> object:
        """Count no time until `resume`."""

    def resume(self) -> object:
        """Count time again."""


class Upload:
    """A body that is read while it is sent. It remembers whether reading it failed, and has that time counted apart."""

    def __init__(self, body: Any) -> None:
        self._body = body
        #: whether the caller's file or generator has raised an exception
        self.failed = False
        #: measures that stand still while it is read
        self.measures: list[Pausable] = []

    @classmethod
    def of(cls, body: Any) -> Self | None:
        """Return a request's body as an upload, None if it needs no reading."""
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
        return self._noting(found) if name == "read" else found

    def __iter__(self) -> Iterator[Any]:
        step = self._noting(iter(self._body).__next__)
        while True:
            try:
                piece = step()
            except StopIteration:
                return
            yield piece

    def _noting(self, read: Callable[..., Any]) -> Callable[..., Any]:
        def noting(*args: Any) -> Any:
            for each in self.measures:
                each.pause()
            try:
                return read(*args)
            except StopIteration:
                raise
            except BaseException:
                self.failed = True
                raise
            finally:
                for each in self.measures:
                    each.resume()

        return noting
