"""Protection against DNS rebinding: requests under names that a service does not have are refused.

A browser treats a page of another site whose name resolves to this host as part of this service. The `Host` header of
its requests has the foreign name.
"""

from flask import Flask

from cb.integrations.flask import Problem
from cb.integrations.flask.current import CURRENT
from cb.integrations.operations.trusted_addresses import LOCALHOST, is_addressed_to

from .settings import Settings


def init_app(app: Flask) -> None:
    """Refuse requests under other names than `server.host`, `server.hosts` and those of the loopback."""
    settings: Settings = app.extensions["settings"]
    names = LOCALHOST.union(name.lower() for name in (settings.host, *settings.hosts))

    def check() -> None:
        if not is_addressed_to(CURRENT, names):
            raise Problem(
                400, "unknown-host", "this service does not answer to that name: server.hosts has those it does"
            )

    app.before_request(check)
