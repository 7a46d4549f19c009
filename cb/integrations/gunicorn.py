"""Hooks for gunicorn, by one line in the app's gunicorn.conf.py: `from cb.integrations.gunicorn import *`.

The import makes a private directory for the metrics that workers share through prometheus_client, and names it in
$PROMETHEUS_MULTIPROC_DIR before anything imports prometheus_client. A directory that the variable names already is left
alone. A configuration that defines one of these hooks itself calls the imported one in it. Breakers need none of this.
"""

import os

from cb.ledger.paths import state_directory

from .gunicorn_hooks import child_exit, on_exit, post_fork, post_worker_init, pre_fork, share_metrics_by_default

__all__ = ["child_exit", "on_exit", "post_fork", "post_worker_init", "pre_fork"]

share_metrics_by_default(state_directory(os.environ), "gunicorn")
