"""The routes, for the `urls.py` of a project: `path("circuit-breakers/", include("cb.integrations.django.urls"))`."""

from django.urls import re_path

from . import views

app_name = "circuit_breakers"
urlpatterns = [re_path(r"^(?P<path>.*)$", views.operations, name="operations")]
