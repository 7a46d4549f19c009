"""What gunicorn calls when workers begin and end, and the directory in which they share their metrics."""

import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

from cb.errors import LedgerError
from cb.ledger.mapped import require_own
from cb.log import Log

from .metrics_directory import MetricsDirectory, is_ours

log = Log(__name__)

_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
#: the directory that this master has made; None: there is none, or somebody else cares for it
_made: MetricsDirectory | None = None


def share_metrics(parent: Path, name: str) -> None:
    """Make a directory for the metrics of this master's workers, and remove those of masters that were killed.

    prometheus_client decides at its import, for the workers too, where values live: it must not be imported yet. Made
    again, as when gunicorn reads its configuration anew, it is left as it is. Where there is no room for one, each
    worker has metrics of its own. Raises LedgerError for a place in which somebody else could replace it.
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
    keep_values()


def share_metrics_unless_told(parent: Path, name: str) -> None:
    """Share metrics, unless the environment names a directory for them.

    One of ours is no such directory: a master that takes over from another (SIGUSR2) has inherited its environment.
    """
    told = os.environ.get(_VARIABLE)
    if told and not is_ours(told, name):
        keep_values()
    else:
        share_metrics(parent, name)


def keep_values() -> None:
    """Have the workers keep their values in files that cannot kill them. Does nothing without prometheus_client."""
    with suppress(ImportError):
        from .value_file import use_value_files

        use_value_files()


def pre_fork(server: Any, _worker: Any) -> None:
    """Let the workers use what their master has made, where they are to run as another user."""
    cfg = server.cfg
    if _made and os.geteuid() == 0 and (cfg.uid, cfg.gid) != (os.geteuid(), os.getegid()):
        try:
            _made.give(cfg.uid, cfg.gid)
        except OSError as error:
            log.warning("workers cannot share their metrics: %s", error)


def post_fork(server: Any, worker: Any) -> None:
    """Remember where a worker that has just been forked puts its signals: it still handles them as its master does."""
    worker.master_signals = server.SIG_QUEUE


def post_worker_init(worker: Any) -> None:
    """End, if told so before the worker had handlers of its own: its master waits for it until graceful_timeout."""
    queue = worker.master_signals
    # Before version 24 it is a list.
    pending = list(queue) if isinstance(queue, list) else [queue.get_nowait() for _ in range(queue.qsize())]
    if signal.SIGTERM in pending:
        os.kill(os.getpid(), signal.SIGTERM)


def child_exit(server: Any, worker: Any) -> None:
    """Take a dead worker's gauges away, and keep its counts: they must never go back."""
    directory = os.environ.get(_VARIABLE)
    if not directory:
        return
    try:
        from prometheus_client.multiprocess import mark_process_dead

        from .ended_workers import fold, is_awaited

        mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]  # it has no types
        if is_awaited(Path(directory)):
            fold(Path(directory), worker.pid)
    except Exception:  # a master that ends because of a worker's file takes all others with it
        with suppress(Exception):  # of a log handler
            server.log.exception("the metrics of worker %d stay in files of its own", worker.pid)


def on_exit(_server: Any) -> None:
    """Leave nothing behind."""
    if _made:
        _made.remove()


def _require_trusted(parent: Path) -> None:
    """Refuse a directory in which somebody else could replace ours. Root may use that of the user whom it serves."""
    found = parent.lstat()
    if os.geteuid() != 0 or found.st_uid == 0:
        require_own(str(parent))
    elif not parent.is_dir() or parent.is_symlink() or found.st_mode & 0o022:
        raise LedgerError(str(parent), "is not a directory that one user alone may write to")
