"""The one line that the gunicorn.conf.py of any app needs: `from cb.web.gunicorn import *`.

It says where the workers share their metrics, before anything imports prometheus_client, unless
$PROMETHEUS_MULTIPROC_DIR says so already, and brings the hooks. A configuration with a hook of its own under one of
these names calls ours in it.
"""

import os

from cb.mappedfile import require_own
from cb.places import state_directory

from .hooks import child_exit, on_exit, post_fork, post_worker_init, share_metrics

__all__ = ["child_exit", "on_exit", "post_fork", "post_worker_init"]

if not os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
    _directory = state_directory(os.environ)
    _directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    require_own(str(_directory))
    share_metrics(_directory, "gunicorn")
