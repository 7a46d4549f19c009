"""The backend for MySQL behind a breaker: `ENGINE = "cb.integrations.django.db.mysql"`."""
