"""Benchmarks of this library and of other circuit breaker libraries. `make bench` runs them."""
