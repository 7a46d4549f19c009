"""The view of the status, the events, the operators' commands and the live page."""

from django.http import Http404, HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt

from cb.integrations.operations.routes import Routes

from .current import breakers
from .request import DjangoRequest, read_body, request_id
from .responses import django_response


@csrf_exempt  # type: ignore[untyped-decorator]  # forms of other sites can send neither a token nor JSON
def operations(request: HttpRequest, path: str) -> HttpResponse:
    """Return the response to a request below the prefix."""
    asked, chosen_id = DjangoRequest(request), request_id(request)
    route = Routes(breakers.state).find(str(request.method), f"/{path}")
    if route is None:
        raise Http404
    refusal = route.refusal(asked, chosen_id)
    if refusal is not None:
        return django_response(refusal)
    body = read_body(request) if route.takes_body else b""
    return django_response(route.respond(asked, body, chosen_id))


# As login_not_required of Django 5.1 has it: the routes have a rule of their own.
operations.login_required = False
