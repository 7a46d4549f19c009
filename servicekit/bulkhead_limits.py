"""How many calls each dependency of a service may get at once, so that some threads are always left."""

from .settings import Settings
from .settings_file import SettingsError

#: threads of a service that no dependency may hold, so that health and status are answered
SPARE = 3


def limits(settings: Settings, *names: str) -> dict[str, int]:
    """Return the limit of each bulkhead: the service's setting NAME_limit, or where it has none an equal share.

    They are shares of the threads of all workers. Raises SettingsError if the limits together leave too few.
    """
    threads = settings.workers * settings.threads
    keys = {name: f"{name.replace('-', '_')}_limit" for name in names}
    chosen = {name: limit for name, key in keys.items() if (limit := settings.service[key]) is not None}
    others = len(names) - len(chosen)
    if chosen and sum(chosen.values()) + others > threads - SPARE:
        largest = max(chosen, key=lambda name: chosen[name])
        rule = f"leave {SPARE} of {threads} threads (server.workers x server.threads) beside all limits together"
        raise SettingsError(
            settings.file, f"services.{settings.name}.{keys[largest]}", rule, settings.service[keys[largest]]
        )
    share = (threads - SPARE - sum(chosen.values())) // max(others, 1)
    return {name: chosen.get(name, max(share, 1)) for name in names}
