"""Fixtures: a directory for the ledgers of an app."""

from tests.support.bakery import state

__all__ = ["state"]
