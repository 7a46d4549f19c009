"""Clients of the other services, and the simulated risk, notification and audit services."""
