"""The counts of ended workers: kept in one file, and read exactly once during the merge."""

import json
import threading
from pathlib import Path

import pytest
from prometheus_client.mmap_dict import MmapedDict, mmap_key

from servicekit.ended_workers import merge_worker, read
from servicekit.worker_files import WorkerFiles

KEY = mmap_key("orders", "orders_total", ["kind"], ["buy"], "Orders")


def work(directory: Path, pid: int, number: float) -> None:
    """Count as a worker does."""
    made = MmapedDict(str(directory / f"counter_{pid}.db"))
    made.write_value(KEY, number, 0)
    made.close()


def counted(directory: Path) -> float:
    line = next(line for line in WorkerFiles(str(directory)).text().splitlines() if line.startswith("orders_total"))
    return float(line.split()[-1])


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


def test_workers_that_have_ended_leave_one_file_with_all_they_counted(tmp_path: Path) -> None:
    for pid in range(1, 6):
        work(tmp_path, pid, 0.5)
    for pid in range(1, 5):
        merge_worker(tmp_path, pid)
        assert counted(tmp_path) == 2.5
    assert names(tmp_path) == {"counter_5.db", "ended.json"}
    merge_worker(tmp_path, 77)  # which has counted nothing
    assert counted(tmp_path) == 2.5


def test_worker_with_the_pid_of_an_ended_one_is_counted_too(tmp_path: Path) -> None:
    work(tmp_path, 1, 2)
    merge_worker(tmp_path, 1)
    work(tmp_path, 1, 3)
    assert counted(tmp_path) == 5
    merge_worker(tmp_path, 1)
    assert counted(tmp_path) == 5


def test_master_that_was_killed_while_it_folded_leaves_every_count_once(tmp_path: Path) -> None:
    work(tmp_path, 1, 2)
    kept = (tmp_path / "counter_1.db").read_bytes()
    merge_worker(tmp_path, 1)
    (tmp_path / "counter_1.db").write_bytes(kept)  # not removed yet
    (tmp_path / "ended.json").write_text(json.dumps({**read(tmp_path).sums, "folded": ["counter_1.db"]}))
    assert counted(tmp_path) == 2


def test_file_that_a_worker_is_just_making_is_empty_and_counts_nothing(tmp_path: Path) -> None:
    work(tmp_path, 1, 2)
    (tmp_path / "counter_2.db").touch()
    assert counted(tmp_path) == 2
    merge_worker(tmp_path, 2)
    assert counted(tmp_path) == 2


def test_who_looks_while_workers_end_sees_every_count_once(tmp_path: Path) -> None:
    work(tmp_path, 1, 1000)
    for pid in range(2, 202):
        work(tmp_path, pid, 1)
    seen: list[float] = []
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            seen.append(counted(tmp_path))

    lookers = [threading.Thread(target=look) for _ in range(3)]
    for looker in lookers:
        looker.start()
    for pid in range(2, 202):
        merge_worker(tmp_path, pid)
    done.set()
    for looker in lookers:
        looker.join()
    assert set(seen) == {1200.0}
    assert len(seen) > 10


def test_file_that_could_not_be_removed_is_removed_by_the_next_fold_and_counted_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work(tmp_path, 1, 2)
    work(tmp_path, 2, 3)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", lambda *_, **__: (_ for _ in ()).throw(PermissionError()))
        with pytest.raises(PermissionError):
            merge_worker(tmp_path, 1)
    assert counted(tmp_path) == 5
    merge_worker(tmp_path, 2)
    assert counted(tmp_path) == 5
    assert names(tmp_path) == {"ended.json"}


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"counter": 1}', b'{"counter": {"a": "b"}, "histogram": {}, "folded": []}']
)
def test_damaged_file_of_ended_workers_is_logged_once_and_replaced(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    work(tmp_path, 1, 2)
    (tmp_path / "ended.json").write_bytes(content)
    assert [counted(tmp_path) for _ in range(2)] == [2, 2]
    assert len(caplog.records) == 1
    merge_worker(tmp_path, 1)
    assert counted(tmp_path) == 2
    assert names(tmp_path) == {"ended.json"}


def test_symbolic_link_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    work(tmp_path, 1, 2)
    (tmp_path / "ended.json").symlink_to(victim)
    merge_worker(tmp_path, 1)
    assert victim.read_text() == "precious"
    assert counted(tmp_path) == 2
