"""The monotonic clock that the times of a ledger belong to: its boot, and its time namespace."""

import errno
from contextlib import suppress


def boot_id() -> bytes:
    """Return 16 bytes that change with every boot of this machine, zeros where the system has none.

    Raises OSError where it has one that cannot be read now.
    """
    try:
        with open("/proc/sys/kernel/random/boot_id", "rb") as file:
            number = int(file.read().strip().replace(b"-", b""), 16)
        return number.to_bytes(16, "big")
    except (FileNotFoundError, NotADirectoryError):
        return bytes(16)
    except (ValueError, OverflowError) as error:
        raise OSError(errno.EINVAL, "the boot id is none") from error


def offset() -> int:
    """Return by how many nanoseconds CLOCK_MONOTONIC is ahead of that of the machine: 0 outside time namespaces.

    Raises OSError where that cannot be read now.
    """
    with suppress(FileNotFoundError, NotADirectoryError), open("/proc/self/timens_offsets", "rb") as file:
        for line in file:
            clock, seconds, nanoseconds = line.split()
            if clock in (b"monotonic", b"1"):
                return int(seconds) * 1_000_000_000 + int(nanoseconds)
    return 0
