"""gunicorn for any of the services: `gunicorn -c config/gunicorn.conf.py 'gateway:create_app()'`."""
# ruff: noqa: INP001  # gunicorn reads it by its path

import os
import re
import shutil
import signal
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path.cwd()))  # as gunicorn will, but only after it has read this file

# Nothing here may import prometheus_client before PROMETHEUS_MULTIPROC_DIR is set: it decides at its import, for the
# workers too, where values live.
from cb.web import SettingsError, load_settings
from cb.web.faults import forget
from cb.web.guard import worker_class as guarded
from cb.web.logs import CONFIG

os.umask(0o077)  # what a service writes is for nobody else
_MEMORY = "/dev/shm"  # noqa: S108  # gunicorn makes its files there safely
_packages = [match[1] for argument in sys.argv if (match := re.fullmatch(r"(\w+):create_app(\(\))?", argument))]
if len(_packages) != 1:
    sys.exit("name one service, such as 'gateway:create_app()'")
# What a package calls SETTINGS is the schema of its section: checked here, a mistake is one line and no worker starts.
_schema = getattr(import_module(_packages[0]), "SETTINGS", None)
try:
    _settings = load_settings(_packages[0], _schema and _schema())
except SettingsError as error:
    sys.exit(str(error))

bind = f"[{_settings.host}]:{_settings.port}"  # brackets are for IPv6, and taken off whatever they hold
worker_class = guarded(_settings.read_timeout, _settings.write_timeout)
workers = _settings.workers
threads = _settings.threads
keepalive = 75  # longer than any client keeps an idle connection, so that it is the client who closes
timeout = 30  # of a worker's main loop; it bounds no request
graceful_timeout = 25
control_socket_disable = True  # all services of a user would share one socket
worker_tmp_dir = _MEMORY if Path(_MEMORY).is_dir() else None  # a disk that stalls would look like a worker that hangs
logconfig_dict = CONFIG

_metrics = _settings.state_dir / f"metrics-{_settings.name}-{os.getpid()}"


def _prepare() -> None:
    """Make the directory in which the workers share their metrics, and remove those of masters that were killed."""
    for directory in _settings.state_dir.glob(f"metrics-{_settings.name}-*"):
        if directory == _metrics or not _alive(int(directory.name.rpartition("-")[2])):
            shutil.rmtree(directory, ignore_errors=True)
    _metrics.mkdir(mode=0o700)
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(_metrics)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


# At a SIGHUP gunicorn reads this file again, and the metrics must go on.
if os.environ.get("PROMETHEUS_MULTIPROC_DIR") != str(_metrics):
    _prepare()


def on_starting(_server: Any) -> None:
    """Start without the faults that an earlier run was asked for."""
    forget(_settings)


def post_fork(server: Any, worker: Any) -> None:
    """Remember where a worker that has just been forked puts its signals: it still handles them as its master does."""
    worker.master_signals = server.SIG_QUEUE


def post_worker_init(worker: Any) -> None:
    """End, if told so before the worker had handlers of its own: its master waits for it until graceful_timeout."""
    while not worker.master_signals.empty():
        if worker.master_signals.get_nowait() == signal.SIGTERM:
            os.kill(os.getpid(), signal.SIGTERM)


def child_exit(server: Any, worker: Any) -> None:
    """Take a dead worker's gauges away, and keep its counts: they must never go back."""
    from prometheus_client.multiprocess import mark_process_dead

    from cb.web.endedworkers import fold

    try:
        mark_process_dead(worker.pid)
        fold(_metrics, worker.pid)
    except Exception:  # a master that ends because of a worker's file takes all others with it
        server.log.exception("the metrics of worker %d stay in files of its own", worker.pid)


def on_exit(_server: Any) -> None:
    """Leave nothing behind."""
    shutil.rmtree(_metrics, ignore_errors=True)
