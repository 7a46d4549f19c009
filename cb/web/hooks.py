"""What gunicorn calls when workers begin and end, and the directory in which they share their metrics."""

import os
import shutil
import signal
from pathlib import Path
from typing import Any

_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
#: the directory that this master has made; None: there is none, or somebody else cares for it
_made: Path | None = None


def share_metrics(parent: Path, name: str) -> None:
    """Make a directory for the metrics of this master's workers, and remove those of masters that were killed.

    prometheus_client decides at its import, for the workers too, where values live: it must not be imported yet. Made
    again, as when gunicorn reads its configuration anew, it is left as it is.
    """
    global _made  # noqa: PLW0603  # of the process, which has one master
    directory = parent / f"metrics-{name}-{os.getpid()}"
    if os.environ.get(_VARIABLE) == str(directory):
        return
    for each in parent.glob(f"metrics-{name}-*"):
        if each == directory or not _alive(int(each.name.rpartition("-")[2])):
            shutil.rmtree(each, ignore_errors=True)
    directory.mkdir(mode=0o700)
    os.environ[_VARIABLE] = str(directory)
    _made = directory


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
    from prometheus_client.multiprocess import mark_process_dead

    from .endedworkers import fold, is_awaited

    try:
        directory = Path(os.environ[_VARIABLE])
        mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]  # it has no types
        if is_awaited(directory):
            fold(directory, worker.pid)
    except Exception:  # a master that ends because of a worker's file takes all others with it
        server.log.exception("the metrics of worker %d stay in files of its own", worker.pid)


def on_exit(_server: Any) -> None:
    """Leave nothing behind."""
    if _made:
        shutil.rmtree(_made, ignore_errors=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True
