"""What a benchmark has found, and what it should find."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

#: a number, or in words what a number cannot say
Figure = float | str


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
    rows: Mapping[str, tuple[Figure, ...]]
    checks: list[Check] = field(default_factory=list)


def with_ratios(figures: Mapping[str, float], one: str) -> dict[str, tuple[Figure, ...]]:
    """Return rows of each figure and how many times that of `one` it is."""
    return {name: (figure, f"{figure / figures[one]:.2f}x") for name, figure in figures.items()}


def never(figure: float, seconds: float) -> Figure:
    """Return a span, or that it was longer than these seconds, if it is infinite."""
    return figure if math.isfinite(figure) else f"never within {seconds:g} s"


def written(figure: Figure) -> str:
    """Return a figure as tables show it."""
    if isinstance(figure, str):
        return figure
    return f"{figure:,.0f}" if figure >= 20 or figure == int(figure) else f"{figure:.3g}"
