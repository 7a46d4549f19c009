"""Sums of the metrics that the workers of a service keep in files of prometheus_client.

prometheus_client creates a sample of each value of each worker and adds the samples; here the values are added, so that
each series is processed once, independent of the number of workers.
"""

import json
import struct
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from math import inf
from pathlib import Path

from prometheus_client import Metric
from prometheus_client.multiprocess import MultiProcessCollector

from cb.integrations.prometheus import Family, Labels, text
from cb.log import Log
from cb.snapshot import Histogram

from .ended_workers import KINDS, Sums, kind_of, read, values

log = Log(__name__)

#: by labels and bucket bound
_Bars = defaultdict[Labels, dict[float | None, float]]


class WorkerFiles:
    """Counters and histograms in a directory, as a collector of prometheus_client or as text."""

    def __init__(self, directory: str) -> None:
        self._directory = Path(directory)
        self._damaged = _Damaged()
        #: a collector of the other kinds
        self.rest = _Rest(self._directory, self._damaged)

    def collect(self) -> Iterator[Metric]:
        """Yield all families with their current values."""
        return (family.metric() for family in self._families())

    def text(self, *, openmetrics: bool = False) -> str:
        """Return all families as text, without the `# EOF` that ends an OpenMetrics response."""
        return text(self._families(), openmetrics=openmetrics)

    def _families(self) -> Iterator[Family]:
        for kind, sums in self._sums().items():
            found: dict[str, Family] = {}
            bars: dict[str, _Bars] = defaultdict(lambda: defaultdict(dict))
            for key, value in sums.items():
                series = _parse(key)
                family = found.setdefault(series.family, Family(series.family, kind, series.help))
                if kind == "counter":
                    family.values.append((series.labels, value))
                else:
                    bars[series.family][series.labels][series.bound] = value
            for name, family in found.items():
                complete = [each for each in bars[name].items() if inf in each[1]]  # a worker may be creating one
                family.histograms = [(labels, _histogram(values)) for labels, values in complete]
                yield family

    def _sums(self) -> Sums:
        while True:
            files = [file for file in _files(self._directory) if kind_of(file) in KINDS]
            ended = read(self._directory)
            try:
                for file in files:
                    if file.name not in ended.folded:
                        sums = ended.sums[kind_of(file)]
                        for key, value in self._damaged.sound(file):
                            sums[key] += value
            except FileNotFoundError:  # a worker has ended meanwhile, and is merged now
                continue
            return ended.sums


def _files(directory: Path) -> list[Path]:
    try:
        return sorted(file for file in directory.iterdir() if file.suffix == ".db")
    except OSError:  # removed, or not readable by this user: the worker has logged it
        return []


class _Damaged:
    """Skips damaged or unreadable files: each is logged once, and no scrape fails."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def sound(self, file: Path) -> list[tuple[str, float]]:
        """Return the values of a file, none if it is damaged. Raises FileNotFoundError."""
        try:
            found = list(values(file))
            for key, _ in found:
                _parse(key)
        except FileNotFoundError:
            raise
        except (OSError, struct.error, RuntimeError, ValueError, TypeError, AttributeError) as error:
            told = file.name in self._told
            self._told.add(file.name)
            if not told:
                log.warning("metrics in %s are left out: %s", file, error)
            return []
        return found


class _Rest:
    def __init__(self, directory: Path, damaged: _Damaged) -> None:
        self._directory = directory
        self._damaged = damaged

    def collect(self) -> Iterator[Metric]:
        files = [str(file) for file in _files(self._directory) if kind_of(file) not in KINDS and self._has(file)]
        return iter(MultiProcessCollector.merge(files))  # type: ignore[no-untyped-call]  # it has no types

    def _has(self, file: Path) -> bool:
        try:
            return bool(self._damaged.sound(file))
        except FileNotFoundError:
            return False  # its worker has ended


@dataclass(frozen=True, slots=True)
class _Series:
    family: str
    help: str
    #: without `le`
    labels: Labels
    #: bucket bound in seconds; None for the sum of a histogram, and for a counter
    bound: float | None


@lru_cache(maxsize=2**14)
def _parse(key: str) -> _Series:
    name, _, labels, help_ = json.loads(key)
    bound = labels.pop("le", None)
    return _Series(name, help_, tuple(labels.items()), None if bound is None else float(bound))


def _histogram(values: dict[float | None, float]) -> Histogram:
    bounds = sorted(bound for bound in values if bound is not None)
    return Histogram(tuple(bounds[:-1]), tuple(int(values[bound]) for bound in bounds), values.get(None, 0.0))
