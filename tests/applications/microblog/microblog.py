"""The module that `gunicorn microblog:app` serves."""

from app import create_app

app = create_app()
