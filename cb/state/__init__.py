"""States, windows and thresholds: what decides about a call. Performs no I/O and owns no clock."""
