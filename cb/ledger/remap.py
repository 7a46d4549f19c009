"""Other memory under the same addresses.

Functions that were guarded before a ledger had to move have its cells in their closures: they go on with the memory
that is put there.
"""

import errno
import mmap

try:
    import ctypes  # now: where it is needed, there may be no descriptor left to read a module with
except ImportError:
    ctypes = None  # type: ignore[assignment]  # some builds of Python have none

_FIXED = 0x10  # MAP_FIXED: of Linux, macOS and the BSDs; mmap does not have it


def put_memory(cells: memoryview) -> None:
    """Put private memory, all zeros, under cells that were mapped. Raises OSError."""
    _put(cells, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)


def put_file(cells: memoryview, fd: int, start: int) -> None:
    """Put a file, from byte `start` on, under cells that were mapped. Raises OSError."""
    _put(cells, mmap.MAP_SHARED, fd, start)


def _put(cells: memoryview, flags: int, fd: int, start: int) -> None:
    if ctypes is None:
        raise OSError(errno.ENOSYS, "this Python has no ctypes")
    library = ctypes.CDLL(None, use_errno=True)
    library.mmap.restype = ctypes.c_void_p
    library.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long)
    address = ctypes.addressof(ctypes.c_char.from_buffer(cells))
    # In one step: a thread that loads from there meanwhile sees the old memory or the new.
    done = library.mmap(address, cells.nbytes, mmap.PROT_READ | mmap.PROT_WRITE, flags | _FIXED, fd, start)
    if done != address:
        raise OSError(ctypes.get_errno(), "memory cannot be put in another's place")
