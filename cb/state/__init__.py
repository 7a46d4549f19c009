"""Decisions: state machine, window, thresholds and outcomes. No I/O and no clock."""
