"""Database backends of Django behind breakers."""
