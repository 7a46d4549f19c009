"""Responses to rejected calls: 503 for an open circuit, 429 for a full bulkhead or a rate limit, with `Retry-After`."""

import os
import sys
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.core.signals import got_request_exception
from django.http import HttpRequest, HttpResponse

from cb.integrations.operations.rejections import REJECTIONS, problem_of
from cb.integrations.operations.responses import problem_response

from .current import breakers
from .request import request_id
from .responses import django_response

_REJECTIONS = tuple(REJECTIONS)
_REJECTION = "_cb_rejection"


class CircuitBreakerMiddleware:
    """Middleware for synchronous and asynchronous views. The first of `MIDDLEWARE`, it responds for the others too.

    A middleware further down that handles an exception itself keeps its response. The settings are checked when the
    server loads this: a mistake is a ConfigError at the start.

    Args:
        get_response: The next middleware or the view.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response
        self._process = 0  # that has joined the ledger
        self._ledger = breakers.state.registry.ledger
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)
            self._respond: Callable[[HttpRequest], Any] = self._respond_async
        else:
            self._respond = self._respond_sync
        # An error of a middleware is a response with 500 before it reaches this one.
        got_request_exception.connect(_note_rejection, dispatch_uid=__name__)

    def __repr__(self) -> str:
        return f"<CircuitBreakerMiddleware before {self.get_response!r}>"

    def __call__(self, request: HttpRequest) -> HttpResponse | Awaitable[HttpResponse]:
        """Return the response."""
        response: HttpResponse | Awaitable[HttpResponse] = self._respond(request)
        return response

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        """Return the response for a rejection that has left a view, None for other exceptions."""
        return _response(request, exception) if isinstance(exception, _REJECTIONS) else None

    def _respond_sync(self, request: HttpRequest) -> HttpResponse:
        self._ledger.join()  # not in __init__: the project may be loaded before workers are forked
        return _replaced(request, self.get_response(request))

    async def _respond_async(self, request: HttpRequest) -> HttpResponse:
        if self._process != os.getpid():
            self._process = os.getpid()
            await sync_to_async(self._ledger.join, thread_sensitive=False)()  # it may wait for a lock
        return _replaced(request, await self.get_response(request))


def _note_rejection(request: HttpRequest | None = None, **_: object) -> None:
    error = sys.exc_info()[1]
    if request is not None and isinstance(error, _REJECTIONS):
        setattr(request, _REJECTION, error)


def _replaced(request: HttpRequest, response: HttpResponse) -> HttpResponse:
    """Return the response for a rejection that has left a middleware, in place of the 500; else the response."""
    error = getattr(request, _REJECTION, None)
    if error is not None and response.status_code == HTTPStatus.INTERNAL_SERVER_ERROR:
        return _response(request, error)
    return response


def _response(request: HttpRequest, error: Exception) -> HttpResponse:
    return django_response(problem_response(problem_of(error), request_id(request)))
