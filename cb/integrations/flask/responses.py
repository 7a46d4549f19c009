"""Responses of Flask: problems, static files, and security headers."""

from collections.abc import Mapping
from pathlib import Path

from flask import Response, request
from werkzeug.exceptions import NotFound

from cb.integrations.operations.problem import PROBLEM_TYPE, Problem
from cb.integrations.operations.security_headers import HEADERS
from cb.integrations.operations.static_files import POLICY, content_type, read_file

from . import current


def problem_response(problem: Problem, request_id: str | None = None) -> Response:
    """Return the response for a Problem.

    Args:
        problem: The problem.
        request_id: Id of the request; by default that of the current one.
    """
    text = problem.text(request_id or current.request_id())
    return Response(text, problem.status, problem.headers, content_type=PROBLEM_TYPE)


def send_file(files: Mapping[str, Path], name: str) -> Response:
    """Return one of these files by name. Browsers keep it and revalidate it by its ETag. Raises NotFound."""
    if name not in files:
        raise NotFound
    return send_content(read_file(files[name]), files[name].suffix)


def send_content(content: bytes, suffix: str) -> Response:
    """Return content of the type that a file name suffix stands for, as `send_file` does."""
    response = with_policy(content, suffix)
    response.headers["Cache-Control"] = "no-cache"
    response.add_etag()
    response.make_conditional(request)
    return response


def with_policy(content: bytes, suffix: str) -> Response:
    """Return content of the type that a file name suffix stands for, with the policy and without an ETag."""
    response = Response(content, content_type=content_type(suffix))
    response.headers["Content-Security-Policy"] = POLICY
    return response


def add_security_headers(response: Response) -> Response:
    """Add the headers that a response does not have yet, and return it."""
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    return response
