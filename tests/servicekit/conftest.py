"""Fixtures: the shop, with `servicekit`."""

from tests.support.shop_service import app, client, config, gunicorn, state

__all__ = ["app", "client", "config", "gunicorn", "state"]
