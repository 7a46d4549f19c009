"""A short soak run (`make soak` runs longer), and the detection of each defect."""

from dataclasses import replace
from pathlib import Path

from tests.proofs.soak.judgement import DESCRIPTORS, FILES, LONG, MEBIBYTE, MEMORY, WARM, growth, steps_back
from tests.proofs.soak.run import Soak
from tests.proofs.soak.samples import Process, Sample

SECONDS = 8
WORK = WARM + LONG
MASTER = Process(pid=1, worked=0.1, memory=20 * MEBIBYTE, descriptors=10)
WORKER = Process(pid=2, worked=0.0, memory=50 * MEBIBYTE, descriptors=30)


def course(*, work: float = 3 * WORK, memory: float = 0, descriptors: float = 0, files: float = 0) -> list[Sample]:
    """Return a hundred samples of a service whose worker does some work while memory and state grow."""
    return [
        Sample(
            at=share * 100,
            master=MASTER,
            workers=[
                replace(
                    WORKER,
                    worked=work * share,
                    memory=WORKER.memory + int(memory * share),
                    descriptors=WORKER.descriptors + int(descriptors * share),
                )
            ],
            files=5 + int(files * share),
        )
        for share in (number / 100 for number in range(100))
    ]


def test_services_under_full_traffic_respond_and_count_while_workers_are_killed(tmp_path: Path) -> None:
    report = Soak(tmp_path, SECONDS, seed=1, pace=(0.5, 1.5)).report()
    assert not report.problems, str(report)
    assert report.answers["200"] > 100 and report.answers["order 201"] > 50, str(report)
    assert report.done["kills"] and report.done["troubles"] and report.done["recoveries"], str(report)


def test_constant_service_does_not_grow() -> None:
    assert list(growth(course(memory=MEMORY, descriptors=DESCRIPTORS, files=FILES))) == []


def test_growing_process_is_detected() -> None:
    (memory,) = growth(course(memory=3 * MEMORY))
    assert memory.startswith("process 2: ") and "MiB" in memory


def test_process_with_little_work_is_not_judged() -> None:
    assert list(growth(course(work=WORK - 0.5, memory=100 * MEMORY))) == []


def test_growing_number_of_descriptors_is_detected() -> None:
    (descriptors,) = growth(course(descriptors=3 * DESCRIPTORS))
    assert "descriptors" in descriptors


def test_growing_number_of_files_is_detected() -> None:
    (files,) = growth(course(files=4 * FILES))
    assert "files in the state directory" in files


def test_decreasing_or_missing_series_is_detected() -> None:
    before = {"a_total": 3.0, 'b_count{x="1"}': 2.0, "c_total": 1.0}
    told = list(steps_back(before, {"a_total": 2.0, "c_total": 1.0, "d_total": 0.0}))
    assert told == ["a_total was 3, now 2", 'b_count{x="1"} was 2, now gone']
