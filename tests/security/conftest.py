from tests.web.conftest import app, client, config, gunicorn

__all__ = ["app", "client", "config", "gunicorn"]
