"""Responses as status, headers and body, for frameworks that have no better ones."""

import hashlib
import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, NamedTuple

from .problem import PROBLEM_TYPE, Problem
from .request import Request
from .static_files import POLICY, content_type


class Response(NamedTuple):
    """An HTTP response, complete but for headers that the server adds."""

    #: status code
    status: int
    #: headers
    headers: Mapping[str, str]
    #: body
    body: bytes


def problem_response(problem: Problem, request_id: str) -> Response:
    """Return the response for a Problem of the request with this id."""
    headers = {**problem.headers, "Content-Type": PROBLEM_TYPE}
    return _response(problem.status, problem.text(request_id).encode(), headers)


def json_response(document: Mapping[str, Any]) -> Response:
    """Return the response that has a document."""
    return _response(HTTPStatus.OK, json.dumps(document).encode() + b"\n", {"Content-Type": "application/json"})


def file_response(content: bytes, suffix: str, request: Request) -> Response:
    """Return a file of the type that a suffix stands for. Browsers keep it and revalidate it by its ETag."""
    tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = {"ETag": tag, "Cache-Control": "no-cache", "Content-Security-Policy": POLICY}
    kept = {each.strip().removeprefix("W/") for each in (request.headers.get("If-None-Match") or "").split(",")}
    if kept & {tag, "*"}:
        return Response(HTTPStatus.NOT_MODIFIED, headers, b"")
    return _response(HTTPStatus.OK, content, {**headers, "Content-Type": content_type(suffix)})


def page_response(content: bytes, status: int) -> Response:
    """Return a page that browsers do not keep."""
    return _response(status, content, {"Content-Security-Policy": POLICY, "Content-Type": content_type(".html")})


def redirection(path: str) -> Response:
    """Return a permanent redirection to a path, relative to that of the request, which keeps the method."""
    return _response(HTTPStatus.PERMANENT_REDIRECT, b"", {"Location": path})


def _response(status: int, body: bytes, headers: Mapping[str, str]) -> Response:
    return Response(status, {**headers, "Content-Length": str(len(body))}, body)
