"""Results of a benchmark, and their limits."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

#: A number, or a text where there is no number.
Figure = float | str


@dataclass(frozen=True, slots=True)
class Check:
    """A ratio of two figures of one run, and its limit."""

    name: str
    value: float
    limit: float
    #: True if the limit is an upper one, False for a lower one
    at_most: bool = True

    @property
    def met(self) -> bool:
        return self.value <= self.limit if self.at_most else self.value >= self.limit

    def __str__(self) -> str:
        return f"{self.name}: {self.value:.2f}, {'at most' if self.at_most else 'at least'} {self.limit:g} required"


@dataclass(frozen=True, slots=True)
class Result:
    """A table: rows of figures by name, with the heading of each column."""

    title: str
    columns: tuple[str, ...]
    rows: Mapping[str, tuple[Figure, ...]]
    checks: list[Check] = field(default_factory=list)


def with_ratios(figures: Mapping[str, float], one: str) -> dict[str, tuple[Figure, ...]]:
    """Return rows with each figure and its ratio to the figure of `one`."""
    return {name: (figure, f"{figure / figures[one]:.2f}x") for name, figure in figures.items()}


def never(figure: float, seconds: float) -> Figure:
    """Return the figure; if it is infinite, a text with the seconds after which the measurement ended."""
    return figure if math.isfinite(figure) else f"never within {seconds:g} s"


def written(figure: Figure) -> str:
    """Return a figure as text for a table."""
    if isinstance(figure, str):
        return figure
    return f"{figure:,.0f}" if figure >= 20 or figure == int(figure) else f"{figure:.3g}"
