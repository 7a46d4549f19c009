"""The settings of the project."""

SECRET_KEY = "yours"
ALLOWED_HOSTS = ["127.0.0.1"]
ROOT_URLCONF = "weather.urls"
MIDDLEWARE = ["cb.integrations.django.CircuitBreakerMiddleware"]  # guard
CIRCUIT_BREAKERS = {"defaults": {"failure_threshold": 5, "timeout": "2s", "success_threshold": 1}}  # guard
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "root": {"handlers": ["console"], "level": "INFO"},
}
