"""The identity of this process among all processes of its host."""

import os
from pathlib import Path


def process_number() -> int:
    """Return a number that no other living process of this host has, in whatever container.

    A process id alone would not do: each PID namespace begins to count anew.
    """
    try:
        namespace = Path("/proc/self/ns/pid").stat().st_ino
    except OSError:  # a system without namespaces, or without /proc
        namespace = 0
    return (namespace & 0x7FFF_FFFF) << 32 | os.getpid()
