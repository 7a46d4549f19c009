"""The backend for PostgreSQL behind a breaker: `ENGINE = "cb.integrations.django.db.postgresql"`."""
