"""The body of a response of aiohttp, observed until it has been received or closed."""

import weakref
from asyncio import AbstractEventLoop, CancelledError, TimerHandle
from types import TracebackType
from typing import Any, Self

import aiohttp

from .aiohttp_errors import described, is_caller_error, late, too_large
from .exchange import Exchange


def observe_body(response: aiohttp.ClientResponse, exchange: Exchange, loop: AbstractEventLoop, proxy: object) -> None:
    """Observe the body of a response, whichever method reads it, and limit its length and time.

    The reader keeps its identity; its class becomes a subclass of its own class. A reader that is not aiohttp's, such
    as one of a test double, ends at once, successfully.
    """
    content = response.content
    timer = _BodyTimer(response, exchange, loop, proxy)
    if type(content) is aiohttp.StreamReader and exchange.exceeds(content.total_bytes):
        content.set_exception(timer.failed(too_large(exchange, response.headers)))
        loop.call_soon(response.close)
    elif content is None or content.is_eof() or type(content) is not aiohttp.StreamReader:
        exchange.end(None)
    elif (error := content.exception()) is not None:
        content.set_exception(timer.failed(error))
    else:
        content._timer = timer  # type: ignore[assignment]  # noqa: SLF001 - entered for each wait, and has no other use
        content.__class__ = _ObservedReader
        exchange.pause()


class _ObservedReader(aiohttp.StreamReader):
    """A reader whose timer is a `_BodyTimer`. It has no room for another attribute."""

    __slots__ = ()
    _timer: Any

    def feed_data(self, data: bytes, *args: Any) -> bool:
        if self._timer.exceeds(len(data)):
            return False
        return super().feed_data(data, *args)

    def feed_eof(self) -> None:
        super().feed_eof()
        self._timer.exchange.end(None)

    def set_exception(self, exc: BaseException, *args: Any) -> None:
        super().set_exception(self._timer.failed(exc), *args)


class _BodyTimer:
    """Measures the waits for a body: the time of the caller between them does not count."""

    def __init__(
        self, response: aiohttp.ClientResponse, exchange: Exchange, loop: AbstractEventLoop, proxy: object
    ) -> None:
        #: the exchange of the body
        self.exchange = exchange
        self._response = weakref.ref(response)
        self._inner: Any = getattr(response.content, "_timer", None)
        self._loop = loop
        self._proxy = proxy
        self._alarm: TimerHandle | None = None
        # The cancellation of the latest wait, until the caller waits again.
        self._cancelled: BaseException | None = None

    def assert_timeout(self) -> None:
        """Raise TimeoutError after the timeout of aiohttp."""
        self._inner.assert_timeout()

    def __enter__(self) -> Self:
        self._cancelled = None
        self._inner.__enter__()
        self.exchange.resume()
        if self.exchange.limit is not None:
            self._alarm = self._loop.call_later(self.exchange.time_left(), self._expire)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        try:
            return self._inner.__exit__(kind, error, trace)  # type: ignore[no-any-return]  # of any timer of aiohttp
        except TimeoutError as ended:
            error = ended
            self._end(described(ended, self.exchange, self._proxy))
            raise
        finally:
            if isinstance(error, CancelledError):
                self._cancelled = error
            self.exchange.pause()

    def exceeds(self, received: int) -> bool:
        """Count bytes of the body. Return True, after having closed the response, if there are more than the limit."""
        if not self.exchange.exceeds(received):
            return False
        response = self._response()
        if response is not None and response.content.exception() is None:
            response.content.set_exception(too_large(self.exchange, response.headers))
            self._loop.call_soon(response.close)
        return True

    def failed(self, error: BaseException) -> BaseException:
        """Record the error that ends the body. Return it with a text."""
        if _is_close(error):
            # A caller that reads no more is a success; one that was cancelled while it waited is not.
            self.exchange.end(self._cancelled)
            return error
        shown = described(error, self.exchange, self._proxy, self._received())
        self._end(shown)
        return shown

    def _end(self, error: BaseException) -> None:
        # A response that was collected, or whose session was closed, is no failure of the dependency.
        response = self._response()
        session = getattr(response, "_session", None)
        is_gone = response is None or (session is not None and session.closed)
        self.exchange.end(error, is_callers=is_gone or is_caller_error(error))

    def _expire(self) -> None:
        response = self._response()
        if response is not None:
            response.content.set_exception(late(self.exchange, connected=True, pool_is_full=False))
            response.close()

    def _received(self) -> str:
        response = self._response()
        announced = "" if response is None else response.headers.get("content-length", "")
        if response is None or not announced.isdecimal() or "content-encoding" in response.headers:
            return ""
        return f", after {response.content.total_bytes:,} bytes of {int(announced):,}"


def _is_close(error: BaseException) -> bool:
    """Return True for the exception that `close` and `release` of a response leave in its body."""
    return type(error) is aiohttp.ClientConnectionError and error.args == ("Connection closed",)
