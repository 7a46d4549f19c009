"""The judgement of a long run: no growth, no counter that decreases, no 500."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from statistics import median

from tests.proofs.soak.samples import Process, Sample

MEBIBYTE = 1 << 20
#: allowed growth of a warm process in bytes
MEMORY = 6 * MEBIBYTE
#: CPU seconds until a process is warm, and CPU seconds of work required for a judgement
WARM, LONG = 3.0, 3.0
#: allowed growth from the second to the last quarter of a run: descriptors of a worker, files of all services
DESCRIPTORS, FILES = 20, 12


def growth(samples: Sequence[Sample]) -> Iterator[str]:
    """Yield each process of a service that grows while it works, and each resource that has become more."""
    for warm in judged(samples):
        third = max(len(warm) // 3, 1)
        before, after = (median(each.memory for each in part) for part in (warm[:third], warm[-third:]))
        if after > before + MEMORY:
            yield f"process {warm[0].pid}: {after / MEBIBYTE:.1f} MiB, before {before / MEBIBYTE:.1f}"
    quarter = len(samples) // 4
    parts = samples[quarter : 2 * quarter], samples[-quarter:]
    before, after = (max(each.descriptors for one in part for each in (one.master, *one.workers)) for part in parts)
    if after > before + DESCRIPTORS:
        yield f"{after} descriptors, before {before}"
    before, after = (median(each.files for each in part) for part in parts)
    if after > before + FILES:
        yield f"{after:.0f} files in the state directory, before {before:.0f}"


def judged(samples: Sequence[Sample]) -> Iterator[list[Process]]:
    """Yield the samples of each process that has worked long enough, without its warm-up."""
    courses: dict[int, list[Process]] = defaultdict(list)
    for each in samples:
        for process in (each.master, *each.workers):
            courses[process.pid].append(process)
    for course in courses.values():
        warm = [process for process in course if process.worked >= WARM]
        if warm and warm[-1].worked - warm[0].worked >= LONG:
            yield warm


def steps_back(before: dict[str, float], after: dict[str, float]) -> Iterator[str]:
    """Yield each series that decreases or disappears."""
    for series, value in before.items():
        now = after.get(series)
        if now is None or now < value:
            yield f"{series} was {value:g}, now {'gone' if now is None else f'{now:g}'}"
