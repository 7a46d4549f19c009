"""Integrations, one module or package for each library, named after it."""
