"""The backend for SQLite behind a breaker: `ENGINE = "cb.integrations.django.db.sqlite3"`."""
