"""Views of the project of the tests."""

from typing import Any

from django.db import connection, connections
from django.http import HttpRequest, HttpResponse
from django.urls import include, path

from cb import BulkheadFullError, RateLimitedError
from cb.integrations.django import breakers


def synchronous(request: HttpRequest) -> HttpResponse:
    return HttpResponse(breakers.get("vendor").call(str, "well"))


async def asynchronous(request: HttpRequest) -> HttpResponse:
    async with breakers.get("vendor"):
        return HttpResponse("well")


def full(request: HttpRequest) -> HttpResponse:
    raise BulkheadFullError("vendor", 3)


def limited(request: HttpRequest) -> HttpResponse:
    raise RateLimitedError("vendor", 2.5)


def broken(request: HttpRequest) -> HttpResponse:
    raise ValueError("a mistake of the view")


def query(request: HttpRequest, alias: str) -> HttpResponse:
    with connections[alias].cursor() as cursor:
        cursor.execute("SELECT 7")
        return HttpResponse(str(cursor.fetchone()[0]))


def process(request: HttpRequest) -> HttpResponse:
    return HttpResponse(connection.vendor)


class Refusing:
    """Middleware whose own dependency is rejected."""

    def __init__(self, get_response: Any) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if "/below" in request.path:
            breakers.get("session-store").call(str)
        response: HttpResponse = self.get_response(request)
        return response


urlpatterns = [
    path("sync", synchronous),
    path("async", asynchronous),
    path("below", synchronous),
    path("full", full),
    path("limited", limited),
    path("broken", broken),
    path("query/<str:alias>", query),
    path("ops/", include("cb.integrations.django.urls")),
]
