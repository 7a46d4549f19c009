"""One view, which calls the API of a weather service."""

import os

from django.http import JsonResponse
from django.urls import path

from cb.integrations.django import breakers  # guard

api = breakers.session("forecast", timeout=2)  # guard


def forecast(request):
    response = api.get(os.environ["VENDOR_URL"], params={"city": request.GET.get("city", "Lisbon")})
    response.raise_for_status()
    return JsonResponse({"forecast": response.text})


urlpatterns = [path("call", forecast)]
