"""What a benchmark has found, and what it should find."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Check:
    """A ratio of two figures of one run, and its limit."""

    what: str
    value: float
    limit: float
    #: else the value must be at least the limit
    at_most: bool = True

    @property
    def met(self) -> bool:
        return self.value <= self.limit if self.at_most else self.value >= self.limit

    def __str__(self) -> str:
        return f"{self.what}: {self.value:.2f}, {'at most' if self.at_most else 'at least'} {self.limit:g} wanted"


@dataclass(frozen=True, slots=True)
class Result:
    """A table: rows of figures by name, with the heading of each column."""

    title: str
    columns: tuple[str, ...]
    rows: Mapping[str, tuple[float, ...]]
    checks: list[Check] = field(default_factory=list)
