"""gunicorn hooks for services: those of `cb.integrations.gunicorn`, with metrics files that are safe and few."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from cb.integrations import gunicorn_hooks as hooks
from cb.integrations.gunicorn_hooks import on_exit, post_fork, post_worker_init, pre_fork

__all__ = ["child_exit", "on_exit", "post_fork", "post_worker_init", "pre_fork", "share_metrics"]


def share_metrics(parent: Path, name: str) -> None:
    """Make a directory for the workers' metrics, kept in files that cannot kill a worker. Raises LedgerError.

    Call it before prometheus_client is imported.
    """
    hooks.share_metrics(parent, name)
    if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        from .value_file import use_value_files

        use_value_files()


def child_exit(server: Any, worker: Any) -> None:
    """Remove the gauges of a dead worker, and merge its counters into one file: they must never decrease."""
    hooks.child_exit(server, worker)
    directory = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    if not directory:
        return
    try:
        from .ended_workers import is_merging_requested, merge_worker

        if is_merging_requested(Path(directory)):
            merge_worker(Path(directory), worker.pid)
    except Exception:  # a master that ends because of a worker's file takes all others with it
        with suppress(Exception):  # of a log handler
            server.log.exception("the metrics of worker %d stay in files of its own", worker.pid)
