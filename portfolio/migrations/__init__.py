"""Migrations of the database, applied in order at the start."""
