"""Start, stop and demonstrate the platform."""
