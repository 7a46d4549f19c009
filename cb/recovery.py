"""Recovery by health check: what a monitor does with a breaker, so that no customer's call has to be the probe."""

from collections.abc import Callable

from .background.fork import detect_fork
from .config import nanoseconds
from .events import HealthChanged
from .health import Health, read_health, write_health
from .ledger import layout as at
from .ledger.layout import state_of
from .ledger.probe_scope import enter
from .passage import Passage
from .state.deferred import require_done
from .states import ADMITTING, Outcome

#: characters of a reason that listeners are told
_LONGEST = 300


class Recovery(Passage):
    """A breaker whose probes may be health checks. They are admitted and counted as every probe is."""

    @property
    def index(self) -> int:
        """The number of its row: the same in all processes that share the ledger."""
        return self._row.index

    def health(self) -> Health | None:
        """Return what the checks of any process have found, None if there never were any."""
        return read_health(self._head, self._clock())

    def note_health(self, error: Exception | None, *, took: float, valid: float) -> None:
        """Note what a check has just raised, None if the dependency is up; `took` and `valid` are seconds.

        It is known to all processes until it has been `valid` for so long. Only one process may check a dependency.
        """
        up, now = error is None, self._clock()
        if write_health(self._head, up, now, took=nanoseconds(took), valid=nanoseconds(valid)):
            reason = "" if up else f"{type(error).__name__}: {error}"
            self._tell([HealthChanged(self.name, up, reason[:_LONGEST])])  # it may quote what the dependency says

    def reserve_probes(self, seconds: float) -> None:
        """Let no call be a probe for so long, unless this is said again; 0 lets calls be probes at once."""
        self._head[at.PROBER_UNTIL] = self._clock() + nanoseconds(seconds) if seconds else 0

    def probe(self, check: Callable[[], object]) -> bool:
        """Run a health check as the probe that the circuit waits for, if it does. Return whether it ran.

        An exception is a failure of the probe, whatever the breaker's rules say of it, and is not raised.
        """
        detect_fork()
        self._core.check(self._row, self._clock())
        now, word = self._clock(), self._head[at.WORD]
        if state_of(word) in ADMITTING or not self._due(word, now, prober=True):
            return False
        tally = self._take()
        if not self._admits(tally, now, prober=True):
            self._row.free(tally)  # a refused check is no refused call: nobody is told, nothing is counted
            return False
        if not tally.probe:  # the circuit has closed meanwhile
            self.abandon(tally)
            return False
        if tally.scope:
            enter(tally.scope)
        outcome = Outcome.NEUTRAL
        try:
            require_done(check())
            outcome = Outcome.SUCCESS
        except Exception as error:  # noqa: BLE001 - whatever it is, the dependency is not well
            if not self._lacks_permit(tally, error):
                outcome = Outcome.FAILURE
                self._note_failure(error, self._clock())
        finally:
            self._settle(tally, outcome, self._clock())
        return True
