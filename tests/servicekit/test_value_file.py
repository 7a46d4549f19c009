"""Files of metric values with allocated memory: compatible with prometheus_client, and safe for workers."""

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.mmap_dict import MmapedDict

from servicekit import value_file as valuefile
from servicekit.value_file import ValueFile

#: runs code in a file system of its own, of so many KiB, with its directory as the argument
CONFINED = 'mount -t tmpfs -o size=$1k,nr_inodes=64 tmpfs "$2" && exec "$3" -c "$4" "$2"'


def confined(directory: Path, code: str, size: int = 256) -> str:
    command = ["unshare", "--map-root-user", "--mount", "sh", "-c", CONFINED, "sh", str(size), str(directory)]
    ran = subprocess.run([*command, sys.executable, code], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, (ran.returncode, ran.stdout, ran.stderr)
    return ran.stdout


def seen(file: Path) -> dict[str, float]:
    """Return the values that prometheus_client reads from a file."""
    read: Any = MmapedDict.read_all_values_from_file  # it has no types
    return {key: value for key, value, *_ in read(str(file))}


def test_prometheus_client_reads_files_of_any_size(tmp_path: Path) -> None:
    file = ValueFile(str(tmp_path / "counter_1.db"))
    keys = [f"key-{number:04}-{'ä' * (number % 9)}" for number in range(500)]
    for number, key in enumerate(keys):
        assert file.read_value(key) == (0.0, 0.0)
        file.write_value(key, float(number), 7.0)
    assert seen(tmp_path / "counter_1.db") == {key: float(number) for number, key in enumerate(keys)}
    assert file.read_value(keys[3]) == (3.0, 7.0)
    assert (tmp_path / "counter_1.db").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("before", [ValueFile, MmapedDict])
def test_file_of_an_earlier_process_with_the_same_id_goes_on(tmp_path: Path, before: type) -> None:
    path = str(tmp_path / "counter_1.db")
    earlier = before(path)
    earlier.write_value("a", 2.0, 0.0)
    earlier.write_value("bcdefghijk", 3.0, 0.0)
    earlier.close()

    file = ValueFile(path)

    assert file.read_value("bcdefghijk") == (3.0, 0.0)
    file.write_value("new", 1.0, 0.0)
    assert seen(tmp_path / "counter_1.db") == {"a": 2.0, "bcdefghijk": 3.0, "new": 1.0}


@pytest.mark.parametrize("damage", [b"", b"\xff", b"\xff" * 300, b"\x40\0\0\0" + b"\xee" * 60])
def test_damaged_file_is_begun_anew(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "counter_1.db"
    path.write_bytes(damage)
    file = ValueFile(str(path))
    file.write_value("a", 2.0, 0.0)
    assert seen(path) == {"a": 2.0}


def test_value_without_room_is_written_once_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = ValueFile(str(tmp_path / "counter_1.db"))
    file.write_value("a", 1.0, 0.0)
    now = 100.0
    monkeypatch.setattr(valuefile, "monotonic", lambda: now)
    with monkeypatch.context() as patch:

        def full(*_: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        patch.setattr(os, "posix_fallocate", full)
        for number in range(200):
            file.write_value(f"key {number}", 1.0, 0.0)
        assert file.read_value("key 199") == (0.0, 0.0)
        file.write_value("a", 2.0, 0.0)
    kept = len(seen(tmp_path / "counter_1.db"))
    assert 10 < kept < 200
    assert seen(tmp_path / "counter_1.db")["a"] == 2.0

    now += 2
    for number in range(200):
        file.write_value(f"key {number}", 2.0, 0.0)

    assert seen(tmp_path / "counter_1.db") == {"a": 2.0, **{f"key {number}": 2.0 for number in range(200)}}


def test_removed_file_is_restored_completely(tmp_path: Path) -> None:
    file = ValueFile(str(tmp_path / "counter_1.db"))
    file.write_value("a", 1.0, 0.0)
    (tmp_path / "counter_1.db").unlink()
    for number in range(200):
        file.write_value(f"key {number}", 2.0, 0.0)
    assert len(seen(tmp_path / "counter_1.db")) == 201


@pytest.mark.parametrize("prepare", ["", "os.rmdir(d)", "os.chmod(d, 0); os.setuid(1) if os.getuid() == 0 else None"])
def test_metrics_in_a_directory_that_cannot_be_used_count_all_the_same(tmp_path: Path, prepare: str) -> None:
    code = f"""
import os, sys
d = sys.argv[1] + "/d"
os.mkdir(d)
os.environ["PROMETHEUS_MULTIPROC_DIR"] = d
from servicekit.value_file import use_value_files
use_value_files()
from prometheus_client import Counter, Histogram, Gauge
{prepare}
counter, histogram = Counter("a", "A", ["x"]), Histogram("h", "H")
for number in range(50):
    counter.labels(number % 5).inc()
    histogram.observe(number)
assert counter.labels(0)._value.get() == 10.0
"""
    ran = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr


FULL = """
import os, sys, threading
d = sys.argv[1]
os.environ["PROMETHEUS_MULTIPROC_DIR"] = d
from servicekit.value_file import ERROR_LOG, use_value_files
use_value_files()
from prometheus_client import Counter, Gauge, Histogram, Summary

def hog():
    try:
        with open(d + "/hog", "ab", 0) as file:
            while True:
                file.write(bytes(4096))
    except OSError:
        pass

if %r: hog()
counter = Counter("asked", "Questions.", ["path"])
histogram, gauge = Histogram("took", "Seconds.", ["path"]), Gauge("now", "Now.", multiprocess_mode="livesum")
summary = Summary("size", "Bytes.")
hog()
for number in range(3000):
    counter.labels(f"/path/{number %% 1000}").inc()
    histogram.labels(f"/path/{number %% 1000}").observe(1)
    gauge.inc()
    summary.observe(1)
hog()
pid = os.fork()
if not pid:
    counter.labels("/path/0").inc()
    counter.labels("/child").inc()
    os._exit(0)
print(os.waitpid(pid, 0)[1])
ERROR_LOG.tick()
os.remove(d + "/hog")
import time
time.sleep(1.1)
counter.labels("/path/5").inc()
from prometheus_client.mmap_dict import MmapedDict
found = {key: value for key, value, *_ in MmapedDict.read_all_values_from_file(f"{d}/counter_{os.getpid()}.db")}
print([value for key, value in found.items() if '"/path/5"' in key])
"""


@pytest.mark.parametrize("before", [False, True])
def test_full_file_system_ends_no_process_and_counts_are_stored_once_it_has_room(
    tmp_path: Path, *, before: bool
) -> None:
    assert confined(tmp_path, FULL % before).split("\n")[:2] == ["0", "[4.0]"]
