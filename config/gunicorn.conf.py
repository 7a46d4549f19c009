"""gunicorn configuration of all three services: `gunicorn -c config/gunicorn.conf.py 'gateway:create_app()'`."""
# ruff: noqa: INP001  # gunicorn reads it by path

import os
import re
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path.cwd()))  # as gunicorn does, but only after reading this file

from gunicorn.glogging import Logger

# Nothing here may import prometheus_client before PROMETHEUS_MULTIPROC_DIR is set: it reads the variable at import.
from servicekit import SettingsError, load_settings
from servicekit import gunicorn_hooks as hooks
from servicekit.faults import remove_simulations
from servicekit.gunicorn_worker import worker_class as guarded
from servicekit.logs import CONFIG

os.umask(0o077)  # files are private to the user of the service
_MEMORY = "/dev/shm"  # noqa: S108  # gunicorn creates its files there safely
_packages = [match[1] for argument in sys.argv if (match := re.fullmatch(r"(\w+):create_app(\(\))?", argument))]
if len(_packages) != 1:
    sys.exit("name one service, such as 'gateway:create_app()'")
# A package's SETTINGS is the schema of its section. Checked here, an invalid setting is one line and no worker starts.
_schema = getattr(import_module(_packages[0]), "SETTINGS", None)
try:
    _settings = load_settings(_packages[0], _schema and _schema())
except SettingsError as error:
    sys.exit(str(error))

bind = f"[{_settings.host}]:{_settings.port}"  # the brackets are required for IPv6 and allowed for others
worker_class = guarded(_settings.read_timeout, _settings.write_timeout)
workers = _settings.workers
threads = _settings.threads
keepalive = 75  # longer than clients keep idle connections, so that the client closes them
timeout = 30  # heartbeat of a worker's main loop; it does not limit requests
graceful_timeout = 25
control_socket_disable = True  # all services of a user would share one socket
worker_tmp_dir = _MEMORY if Path(_MEMORY).is_dir() else None  # a stalled disk would look like a hung worker
logconfig_dict = CONFIG


pre_fork, post_fork, post_worker_init = hooks.pre_fork, hooks.post_fork, hooks.post_worker_init
child_exit, on_exit = hooks.child_exit, hooks.on_exit


class logger_class(Logger):  # noqa: N801  # gunicorn's name for it
    """A logger without gunicorn's access log: servicekit.logs logs each request."""

    def access(self, *_: Any) -> None:
        """Log nothing."""


hooks.share_metrics(_settings.state_dir, _settings.name)


def on_starting(_server: Any) -> None:
    """Remove the simulated faults of an earlier run."""
    remove_simulations(_settings)
