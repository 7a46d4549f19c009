"""Work that no call triggers: the watchdog thread, leader-elected tasks, and fork hooks."""
