"""Clients of the portfolio and market data services, and the risk, notification and audit services in process."""
