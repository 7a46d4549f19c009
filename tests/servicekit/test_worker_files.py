"""Sums of the files of several workers, compared with those of prometheus_client."""

from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.mmap_dict import MmapedDict, mmap_key
from prometheus_client.multiprocess import MultiProcessCollector

from servicekit.worker_files import WorkerFiles

BOUNDS = ("0.1", "2.5", "+Inf")


class Worker:
    """Writes the files that a process writes."""

    def __init__(self, directory: Path, pid: int) -> None:
        self._directory = directory
        self._pid = pid

    def write(self, kind: str, name: str, sample: str, value: float, **labels: str) -> None:
        file = MmapedDict(str(self._directory / f"{kind}_{self._pid}.db"))
        key = mmap_key(name, sample, tuple(labels), tuple(labels.values()), f'Help of "{name}"')
        file.write_value(key, value, 0.0)
        file.close()

    def observe(self, name: str, total: float, *calls: int, **labels: str) -> None:
        self.write("histogram", name, f"{name}_sum", total, **labels)
        for le, number in zip(BOUNDS, calls, strict=False):
            self.write("histogram", name, f"{name}_bucket", number, **labels, le=le)


@pytest.fixture
def workers(tmp_path: Path) -> list[Worker]:
    """Return two workers that have counted, each something that the other has not."""
    one, two = workers = [Worker(tmp_path, 1), Worker(tmp_path, 2)]
    one.write("counter", "hits", "hits_total", 2, url="/a%s")
    one.write("counter", "hits", "hits_total", 1, url='/"b"')
    two.write("counter", "hits", "hits_total", 3, url="/a%s")
    two.write("counter", "misses", "misses_total", 7)
    one.observe("seconds", 0.5, 1, 2, 3, url="/a%s", way="in")
    two.observe("seconds", 4.25, 0, 1, 1, url="/a%s", way="in")
    two.observe("seconds", 1.0, 4, 0, 0, url="/b", way="out")
    two.observe("plain", 1.0, 4, 0, 1)
    for worker, version in zip(workers, (3, 5), strict=True):
        worker.write("gauge_livemax", "version", "version", version)
        worker.write("summary", "sizes", "sizes_sum", version)
    return workers


def both(directory: Path) -> tuple[list[str], list[str]]:
    """Return the lines of ours and theirs."""
    files, ours, theirs = WorkerFiles(str(directory)), CollectorRegistry(), CollectorRegistry()
    ours.register(files.rest)
    MultiProcessCollector(theirs, str(directory))
    text = files.text() + generate_latest(ours).decode()
    assert sorted(generate_latest(_registry(files)).decode().splitlines()) == sorted(files.text().splitlines())
    return sorted(text.splitlines()), sorted(generate_latest(theirs).decode().splitlines())


def _registry(files: WorkerFiles) -> CollectorRegistry:
    registry = CollectorRegistry(support_collectors_without_names=True)
    registry.register(files)
    return registry


def test_values_of_all_workers_equal_those_of_prometheus_client(workers: list[Worker], tmp_path: Path) -> None:
    ours, theirs = both(tmp_path)
    assert ours == theirs
    assert 'hits_total{url="/a%s"} 5.0' in ours
    assert 'seconds_bucket{le="+Inf",url="/a%s",way="in"} 8.0' in ours


def test_histogram_that_a_worker_is_just_making_is_left_out(workers: list[Worker], tmp_path: Path) -> None:
    files = WorkerFiles(str(tmp_path))
    before = files.text()
    workers[0].observe("seconds", 0.0, url="/new", way="in")
    workers[0].observe("seconds", 0.0, 0, url="/newer", way="in")
    assert files.text() == before


def test_files_that_a_worker_is_just_making_hinder_no_scrape(tmp_path: Path, workers: list[Worker]) -> None:
    ours, _ = both(tmp_path)
    for kind in ("counter", "histogram", "gauge_livemax"):
        (tmp_path / f"{kind}_9.db").touch()
    files, registry = WorkerFiles(str(tmp_path)), CollectorRegistry()
    registry.register(files.rest)
    assert sorted((files.text() + generate_latest(registry).decode()).splitlines()) == ours


@pytest.mark.parametrize("name", ["counter_9.db", "histogram_9.db", "gauge_livemax_9.db", "summary_9.db"])
@pytest.mark.parametrize(
    "content",
    [
        b"\x07",
        b"\xff" * 40,
        b"\x40\0\0\0" + b"\xee" * 8,
        b"\x40\0\0\0\0\0\0\0\x02\0\0\0[]      " + bytes(16),
        bytes(5000),
    ],
)
def test_damaged_file_is_skipped_and_logged_once(
    tmp_path: Path, workers: list[Worker], caplog: pytest.LogCaptureFixture, name: str, content: bytes
) -> None:
    whole, _ = both(tmp_path)
    (tmp_path / name).write_bytes(content)
    files, registry = WorkerFiles(str(tmp_path)), CollectorRegistry()
    registry.register(files.rest)
    for _ in range(2):
        assert sorted((files.text() + generate_latest(registry).decode()).splitlines()) == whole
    assert len([each for each in caplog.records if each.name == "servicekit.worker_files"]) <= 1


def test_directory_that_is_gone_has_no_metrics(tmp_path: Path) -> None:
    files, registry = WorkerFiles(str(tmp_path / "gone")), CollectorRegistry()
    registry.register(files.rest)
    assert files.text() + generate_latest(registry).decode() == ""


def test_link_in_place_of_a_file_is_not_followed(
    tmp_path: Path, workers: list[Worker], caplog: pytest.LogCaptureFixture
) -> None:
    before = WorkerFiles(str(tmp_path)).text()
    (tmp_path / "counter_9.db").symlink_to(tmp_path / "counter_1.db")
    assert WorkerFiles(str(tmp_path)).text() == before
    assert "counter_9.db" in caplog.text
