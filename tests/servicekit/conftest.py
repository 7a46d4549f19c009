"""Fixtures: the shop, with `servicekit`."""

from tests.support.shop_service import app, client, config, gunicorn

__all__ = ["app", "client", "config", "gunicorn"]
