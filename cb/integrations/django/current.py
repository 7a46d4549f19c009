"""The breakers of the current project, as `settings.CIRCUIT_BREAKERS` has them."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, cast

from django.conf import settings
from django.core.signals import setting_changed

from cb.breaker import CircuitBreaker
from cb.config import BreakerConfig
from cb.control import BreakerControl
from cb.integrations.operations.extension_state import ExtensionState
from cb.ledger.ledger import Ledger
from cb.registry import Registry
from cb.snapshot import Snapshot
from cb.state.outcome import ErrorFilter

from .settings import SETTING, create_state

if TYPE_CHECKING:
    import requests


class Breakers:
    """The breakers of the current project. They are created when they are first used.

    All workers and commands of the project share them. In tests they are in memory: a test must not open a circuit of
    a running service.
    """

    def __init__(self) -> None:
        self._state: ExtensionState | None = None
        setting_changed.connect(self._on_setting_changed, dispatch_uid=__name__)  # by override_settings

    def __repr__(self) -> str:
        return f"<Breakers of {self._state.service!r}>" if self._state else "<Breakers, not used yet>"

    def __reduce__(self) -> str:
        return "breakers"

    def __iter__(self) -> Iterator[CircuitBreaker]:
        return iter(self.registry)

    @property
    def state(self) -> ExtensionState:
        """The breakers with their settings. Raises ConfigError."""
        state = self._state
        if state is None:
            # Without a lock, which a fork could copy while it is taken: the ledger is one for all registries.
            state = create_state(getattr(settings, SETTING, {}), self)
            self._state = state = self._state or state
        return state

    @property
    def registry(self) -> Registry:
        """The registry. Raises ConfigError."""
        return self.state.registry

    @property
    def ledger(self) -> Ledger:
        """The ledger of all breakers. Raises ConfigError."""
        return self.registry.ledger

    def get(
        self,
        name: str,
        config: BreakerConfig | None = None,
        *,
        failures: ErrorFilter | None = None,
        ignored: ErrorFilter | None = None,
        failed_result: Callable[[Any], bool] | None = None,
    ) -> CircuitBreaker:
        """Return the breaker of a dependency, created at the first call. Raises ConfigError.

        Args:
            name: Name of the dependency.
            config: Its thresholds, in place of those of the settings.
            failures: Exceptions that are failures, as in `CircuitBreaker`.
            ignored: Exceptions that count as neither success nor failure.
            failed_result: Predicate of returned values that are failures.
        """
        return self.registry.get(name, config, failures=failures, ignored=ignored, failed_result=failed_result)

    def control(self, name: str) -> BreakerControl | None:
        """Return the control of a breaker that any process has made, None if there is none."""
        return self.registry.control(name)

    def snapshots(self) -> Iterator[Snapshot]:
        """Yield a snapshot of each breaker that any process has made."""
        return self.registry.snapshots()

    def session(self, name: str | None = None, **options: Any) -> "requests.Session":
        """Return a `cb.http.guarded_session`: with one breaker, or, without a name, one per host.

        It may be made in any module. Each request goes through the breakers of the current settings.
        """
        from cb.http import guarded_session

        return guarded_session(cast("Registry", self), name, **options)

    def _on_setting_changed(self, *, setting: str, **_: object) -> None:
        if setting == SETTING:
            self._state = None


#: the breakers of the current project
breakers = Breakers()
