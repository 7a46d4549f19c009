"""Opening the database that a service's settings name."""

from collections.abc import Iterator
from contextlib import contextmanager

from .settings import Settings
from .settings_file import SettingsError


@contextmanager
def opening_database(settings: Settings, unavailable: type[Exception]) -> Iterator[None]:
    """Blame the setting for what hinders the block, that error included. Raises SettingsError."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise _error(settings, f"be of a kind whose driver is installed: pip install '{error.name}[binary]'") from error
    except (OSError, unavailable) as error:
        raise _error(settings, f"be a database that can be opened ({error})") from error


def _error(settings: Settings, rule: str) -> SettingsError:
    return SettingsError(settings.file, f"services.{settings.name}.database", rule, settings.service["database"])
