"""The result of a run, as a table."""

from collections import Counter
from dataclasses import dataclass, field

from tests.proofs.chaos.invariants import INVARIANTS

SHOWN = 5


@dataclass
class Report:
    """The result of a run."""

    seed: int
    database: str
    bug: str | None = None
    #: seconds of faults
    lasted: float = 0.0
    #: seconds from the end of the faults until all trades were settled; None if not measured
    settled: float | None = None
    states: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    kills: Counter[str] = field(default_factory=Counter)
    #: by name of each checked invariant
    violations: dict[str, list[str]] = field(default_factory=dict)

    @property
    def broken(self) -> list[str]:
        """Names of the violated invariants."""
        return [name for name, found in self.violations.items() if found]

    def __str__(self) -> str:
        lines = [f"seed {self.seed}, {self.database}, {self.bug or 'no'} bug planted, {self.lasted:.1f} s of faults"]
        for name in ("states", "answers", "faults", "kills"):
            counted: Counter[str] = getattr(self, name)
            lines.append(f"{name + ':':9}" + ", ".join(f"{count} {name}" for name, count in counted.most_common()))
        if self.settled is not None:
            lines.append(f"settled {self.settled:.1f} s after the faults")
        for each in INVARIANTS:
            if each.name in self.violations:
                found = self.violations[each.name]
                lines.append(f"  {each.name:14}{f'{len(found)} violations' if found else 'ok':16}{each.rule}")
                lines += [f"      {one}" for one in found[:SHOWN]]
        return "\n".join(lines)
