"""gunicorn's server hooks, and the directory through which its workers share their metrics."""

import os
import signal
import sys
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from cb.errors import LedgerError
from cb.ledger.mapped import require_own
from cb.log import Log

from .metrics_directory import MetricsDirectory, is_ours

log = Log(__name__)

_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
#: the directory that this master made; None if there is none, or if the environment named one
_made: MetricsDirectory | None = None


def share_metrics(parent: Path, name: str) -> None:
    """Make a directory for the metrics of this master's workers, and remove those of masters that were killed.

    Call it before prometheus_client is imported: it decides at import, for the workers too, where values are kept. A
    second call, as when gunicorn reloads its configuration, does nothing. If the directory cannot be made, a warning
    is logged and each worker has metrics of its own. Raises LedgerError if other users could replace the directory.
    """
    global _made  # noqa: PLW0603  # of the process, which has one master
    if _made and os.environ.get(_VARIABLE) == str(_made.path):
        return
    try:
        parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _require_trusted(parent)
        _made = MetricsDirectory(parent, name)
    except OSError as error:
        os.environ.pop(_VARIABLE, None)
        log.warning("workers do not share their metrics, each has its own: %s", error)
        return
    os.environ[_VARIABLE] = str(_made.path)


def share_metrics_by_default(parent: Path, name: str) -> None:
    """Share metrics if prometheus_client is installed and the environment does not name a directory for them.

    A directory of ours does not count: a master that takes over from another (SIGUSR2) has inherited its environment.
    """
    named = os.environ.get(_VARIABLE)
    if (not named or is_ours(named, name)) and find_spec("prometheus_client"):
        share_metrics(parent, name)


def pre_fork(server: Any, _worker: Any) -> None:
    """Give the directory to the user that the workers run as.

    If that user cannot reach it, a warning is logged and each worker has metrics of its own. Raises LedgerError if
    prometheus_client is imported already (`--preload`): every count would fail then.
    """
    cfg = server.cfg
    if not _made or os.geteuid() != 0 or (cfg.uid, cfg.gid) == (os.geteuid(), os.getegid()):
        return
    try:
        _made.give(cfg.uid, cfg.gid)
        _require_reachable(_made.path, cfg.uid, cfg.gid)
    except OSError as error:
        log.warning("workers cannot share their metrics: %s", error)
    except LedgerError as error:
        if "prometheus_client" in sys.modules:
            raise
        os.environ.pop(_VARIABLE, None)
        log.warning("workers do not share their metrics, each has its own: %s", error)


def post_fork(server: Any, worker: Any) -> None:
    """Restore a removed directory, and keep the queue of signals that a new worker shares with its master.

    A new worker handles signals as its master does until it has installed its own handlers.
    """
    worker.master_signals = server.SIG_QUEUE
    if _made:
        with suppress(OSError):  # prometheus_client reports it
            _made.path.mkdir(mode=0o700, exist_ok=True)


def post_worker_init(worker: Any) -> None:
    """End a worker that received SIGTERM before it had installed its own handlers.

    Its master would wait for it until graceful_timeout.
    """
    queue = worker.master_signals
    # Before version 24 it is a list.
    pending = list(queue) if isinstance(queue, list) else [queue.get_nowait() for _ in range(queue.qsize())]
    if signal.SIGTERM in pending:
        os.kill(os.getpid(), signal.SIGTERM)


def child_exit(server: Any, worker: Any) -> None:
    """Remove the gauges of a dead worker. Its counters stay in the directory: they must never decrease."""
    if not os.environ.get(_VARIABLE):
        return
    try:
        from prometheus_client.multiprocess import mark_process_dead

        mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]  # it has no types
    except Exception:  # a master that ends because of a worker's file takes all others with it
        with suppress(Exception):  # of a log handler
            server.log.exception("the gauges of worker %d are kept", worker.pid)


def on_exit(_server: Any) -> None:
    """Remove the directory."""
    if _made:
        _made.remove()


def _require_reachable(path: Path, user: int, group: int) -> None:
    for folder in path.parents:
        found = folder.stat()
        bit = 0o100 if found.st_uid == user else 0o010 if found.st_gid == group else 0o001
        if not found.st_mode & bit:
            raise LedgerError(str(folder), f"cannot be entered by user {user} of the workers: chmod a+x {folder}")


def _require_trusted(parent: Path) -> None:
    """Reject a directory in which other users could replace ours. Root may use that of the user it serves."""
    found = parent.lstat()
    if os.geteuid() != 0 or found.st_uid == 0:
        require_own(str(parent))
    elif not parent.is_dir() or parent.is_symlink() or found.st_mode & 0o022:
        raise LedgerError(str(parent), "is not a directory that one user alone may write to")
