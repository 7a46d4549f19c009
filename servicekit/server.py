"""The start of a service: under gunicorn, or under waitress on systems without fork."""

import os
import signal
import sys
from importlib import import_module

from .faults import remove_simulations
from .settings import Settings
from .settings_file import SettingsError


def serve(package: str) -> None:
    """Serve the app that `package.create_app()` returns, until SIGTERM.

    gunicorn uses config/gunicorn.conf.py. On Windows, and with CB_SERVER=waitress, waitress serves in one process.
    """
    if hasattr(os, "fork") and os.environ.get("CB_SERVER") != "waitress":
        conf = os.environ.get("CB_GUNICORN_CONF") or "config/gunicorn.conf.py"
        gunicorn = [sys.executable, "-m", "gunicorn", "-c", conf, f"{package}:create_app()"]
        os.execv(sys.executable, gunicorn)  # noqa: S606  # this very interpreter
    from waitress import serve as run  # type: ignore[import-untyped]  # it ships no types

    os.umask(0o077)  # files of a service are private
    os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)  # there is one process only
    try:
        app = import_module(package).create_app()
    except SettingsError as error:
        sys.exit(str(error))
    settings: Settings = app.extensions["settings"]
    remove_simulations(settings)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    run(app, host=settings.host, port=settings.port, threads=settings.threads, ident=None)
