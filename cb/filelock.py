"""Locks between processes that the kernel frees when their holder dies. POSIX only."""

import fcntl
import os
import threading
import time

_FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


def claim(path: str) -> int | None:
    """Lock a file without waiting. Return its descriptor, which holds the lock until it is closed, or None.

    flock, not lockf: it belongs to the descriptor, so closing another descriptor of the file loses nothing, and two
    ledgers of one process exclude each other.
    """
    fd = os.open(path, _FLAGS, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    except BaseException:
        os.close(fd)
        raise
    return fd


class FileLock:
    """A lock between all threads of all processes that name the same file.

    Its shape is that of threading.Lock. The descriptor is opened by the process that uses it: one that was inherited
    through fork would share the parent's lock.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd: int | None = None
        self._thread_lock = threading.Lock()

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Return whether the lock was taken within `timeout` seconds; -1 waits for ever."""
        end = time.monotonic() + timeout if timeout >= 0 else None
        if not self._thread_lock.acquire(blocking, timeout):
            return False
        locked = False
        try:
            if self._fd is None:
                self._fd = os.open(self._path, _FLAGS, 0o600)
            wait = 0.00005
            while not locked:
                try:
                    fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    locked = True
                except BlockingIOError:
                    # Polled, because a blocking flock has no timeout and its holder may be stopped for good.
                    if not blocking or (end is not None and time.monotonic() >= end):
                        break
                    time.sleep(wait)
                    wait = min(wait * 2, 0.002)
        except OSError:
            pass  # no descriptor left, or the file's directory is gone: a lock that cannot be had
        finally:
            if not locked:
                self._thread_lock.release()
        return locked

    def release(self) -> None:
        """Free the lock."""
        assert self._fd is not None
        fcntl.flock(self._fd, fcntl.LOCK_UN)
        self._thread_lock.release()

    def renew(self) -> None:
        """Forget the parent's lock, in a forked child. Closing does not unlock: the parent's descriptor is open."""
        self._thread_lock = threading.Lock()
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *error: object) -> None:
        self.release()
