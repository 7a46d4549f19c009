"""Handlers for rejected calls: 503 for an open circuit, 429 for a full bulkhead or a rate limit."""

from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import Any

from flask import Flask, Response, current_app

from cb.errors import CircuitError
from cb.integrations.operations.problem import Problem
from cb.integrations.operations.rejections import REJECTIONS, problem_of

from .responses import problem_response


def register_error_handlers(app: Flask) -> None:
    """Handle rejections and Problems in an app, unless the app has handlers for them. Other errors stay as they are.

    Flask-RESTful and Flask-RESTX replace the app's error handling and turn unknown errors into 500. Ours are handled
    before they reach such an extension, unless it has a handler for them.
    """
    known = app.error_handler_spec[None][None]
    for error in REJECTIONS:
        if error not in known:
            app.register_error_handler(error, _handle)
    # Instance attributes, as the extensions set: the order in which they are set does not matter.
    app.preprocess_request = _handling(app, app.preprocess_request)  # type: ignore[method-assign]  # as said
    app.dispatch_request = _handling(app, app.dispatch_request)  # type: ignore[method-assign]  # as said


def _handling(app: Flask, run: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a step of request handling so that its rejections are handled by the app's handlers or by ours."""
    handled_errors = tuple(REJECTIONS)

    def handled(*context: Any) -> Any:
        try:
            return run(*context)
        except handled_errors as error:
            api = _api_of_view(app)
            if _has_handler(api, error):
                raise
            if _overrides_handle_error(api) and (own := _response_of_api(app, error, *context)):
                return own
            # That of the class: an extension's replacement is an attribute of the instance.
            return type(app).handle_user_exception(app, *context, error)  # type: ignore[call-arg]  # a later Flask has a context

    return handled


def _api_of_view(app: Flask) -> Any:
    """Return the API that replaced the app's error handling for the current view, None if there is none."""
    router = app.__dict__.get("handle_user_exception")
    while isinstance(router, partial):
        api = getattr(router.func, "__self__", None)
        if getattr(api, "_has_fr_route", bool)():
            return api
        router = router.args[0] if router.args else None
    return None


def _has_handler(api: Any, error: Exception) -> bool:
    """Return True if an API has a handler meant for one of our errors."""
    kinds = getattr(api, "_own_and_child_error_handlers", ())  # of Flask-RESTX: by class
    names = getattr(api, "errors", ())  # of Flask-RESTful: by the name of the class
    return type(error).__name__ in names or any(_is_specific(each) and isinstance(error, each) for each in kinds)


def _overrides_handle_error(api: Any) -> bool:
    """Return True if the app has overridden the API's `handle_error`."""
    handler, router = (getattr(api, name, None) for name in ("handle_error", "error_router"))
    return getattr(handler, "__module__", None) != getattr(router, "__module__", None)


def _response_of_api(app: Flask, error: Exception, *context: Any) -> Response | None:
    """Return the response of an overridden `handle_error`, None if it is the extension's 500."""
    try:
        response = app.make_response(app.handle_user_exception(*context, error))  # type: ignore[call-arg]  # as above
    except type(error):
        return None
    return None if response.status_code == HTTPStatus.INTERNAL_SERVER_ERROR else response


def _is_specific(kind: type) -> bool:
    """Return True if a handler for this class is meant for our errors; one for Exception is not."""
    return issubclass(kind, (CircuitError, Problem))


def _handle(error: Exception) -> Any:
    """Handle an error by the app's own handler for it or for a parent, such as CircuitError, otherwise by ours."""
    handlers = current_app.error_handler_spec[None][None]
    kinds = [kind for kind in type(error).__mro__ if _is_specific(kind)]
    own = next((handlers[kind] for kind in kinds if handlers.get(kind, _handle) is not _handle), None)
    if own is not None:
        return current_app.ensure_sync(own)(error)
    return problem_response(problem_of(error))
