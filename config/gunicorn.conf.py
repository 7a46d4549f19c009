"""gunicorn for any of the services: `gunicorn -c config/gunicorn.conf.py 'gateway:create_app()'`."""
# ruff: noqa: INP001  # gunicorn reads it by its path

import os
import re
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path.cwd()))  # as gunicorn will, but only after it has read this file

from gunicorn.glogging import Logger

# Nothing here may import prometheus_client before PROMETHEUS_MULTIPROC_DIR is set: it decides at its import, for the
# workers too, where values live.
from servicekit import SettingsError, load_settings
from servicekit import gunicorn_hooks as hooks
from servicekit.faults import forget
from servicekit.gunicorn_worker import worker_class as guarded
from servicekit.logs import CONFIG

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


pre_fork, post_fork, post_worker_init = hooks.pre_fork, hooks.post_fork, hooks.post_worker_init
child_exit, on_exit = hooks.child_exit, hooks.on_exit


class logger_class(Logger):  # noqa: N801  # gunicorn's name for it
    """Prepares no line of an access log: servicekit.logs has one of each request, and nobody would see gunicorn's."""

    def access(self, *_: Any) -> None:
        """Say nothing."""


hooks.share_metrics(_settings.state_dir, _settings.name)


def on_starting(_server: Any) -> None:
    """Start without the faults that an earlier run was asked for."""
    forget(_settings)
