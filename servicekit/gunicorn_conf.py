"""The one line that the gunicorn.conf.py of any app needs: `from servicekit.gunicorn_conf import *`.

It says where the workers share their metrics, before anything imports prometheus_client, unless
$PROMETHEUS_MULTIPROC_DIR says so already, and brings the hooks. A configuration with a hook of its own under one of
these names calls ours in it.
"""

import os

from cb.ledger.paths import state_directory

from .gunicorn_hooks import child_exit, on_exit, post_fork, post_worker_init, pre_fork, share_metrics_unless_told

__all__ = ["child_exit", "on_exit", "post_fork", "post_worker_init", "pre_fork"]

share_metrics_unless_told(state_directory(os.environ), "gunicorn")
