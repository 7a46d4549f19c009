"""Responses of Django."""

from django.http import HttpResponse

from cb.integrations.operations.responses import Response


def django_response(response: Response) -> HttpResponse:
    """Return a response as one of Django."""
    return HttpResponse(response.body, status=int(response.status), headers=dict(response.headers))
