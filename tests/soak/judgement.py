"""What must be so of a long run: nothing grows that should not, nothing goes back, nobody is told 500."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from statistics import median

from .samples import Process, Sample

MEBIBYTE = 1 << 20
#: bytes and descriptors by which a process may be larger at the end of the time that it is compared over
MEMORY, DESCRIPTORS = 6 * MEBIBYTE, 8
#: seconds until a process has imported and pooled what it needs, and the least time that growth is looked for in
WARM, LONG = 15.0, 30.0
#: files by which the directory of state may grow from the second quarter of the run to the last
FILES = 12


def growth(samples: Sequence[Sample]) -> Iterator[str]:
    """Yield each process of a service that grows while it works, and each kind of file that becomes more."""
    courses: dict[int, list[Process]] = defaultdict(list)
    for each in samples:
        for process in (each.master, *each.workers):
            courses[process.pid].append(process)
    for pid, course in courses.items():
        warm = [process for process in course if process.age > WARM]
        if warm and warm[-1].age - warm[0].age >= LONG:
            first, last = _ends(warm)
            yield from _grown(f"process {pid}", first, last, warm[-1].age - warm[0].age)
    quarter = len(samples) // 4
    before, after = (
        median(each.files for each in part) for part in (samples[quarter : 2 * quarter], samples[-quarter:])
    )
    if after > before + FILES:
        yield f"{after:.0f} files in the directory of state, before {before:.0f}"


def steps_back(before: dict[str, float], after: dict[str, float]) -> Iterator[str]:
    """Yield each series that goes back, or is not there any more."""
    for series, value in before.items():
        now = after.get(series)
        if now is None or now < value:
            yield f"{series} was {value:g}, now {'gone' if now is None else f'{now:g}'}"


def _ends(course: Sequence[Process]) -> tuple[Sequence[Process], Sequence[Process]]:
    third = max(len(course) // 3, 1)
    return course[:third], course[-third:]


def _grown(who: str, first: Sequence[Process], last: Sequence[Process], seconds: float) -> Iterator[str]:
    for what, limit, before, after in (
        ("bytes", MEMORY, median(each.memory for each in first), median(each.memory for each in last)),
        ("descriptors", DESCRIPTORS, max(each.descriptors for each in first), max(each.descriptors for each in last)),
    ):
        if after > before + limit:
            yield f"{who}: {after:.0f} {what}, {seconds:.0f} s before {before:.0f}"
