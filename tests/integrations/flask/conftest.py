"""Fixtures: the shop, whose service kit uses the extension, and a directory for the ledgers of other apps."""

from tests.support.shop_service import app, client, config, gunicorn, state

__all__ = ["app", "client", "config", "gunicorn", "state"]
