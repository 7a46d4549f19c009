"""The tasks of docs/integrations/celery.md in four children of a worker: the vendor fails, tasks wait, all succeed."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import Reader, blocks
from tests.support import ROOT
from tests.support.misbehaving import Server, answer
from tests.support.redis_servers import BINARIES
from tests.support.redis_servers import Server as Redis
from tests.support.waiting import until

PAGE = ROOT / "docs/integrations/celery.md"

CHILDREN = 4
THRESHOLD = 5

pytestmark = pytest.mark.quiet

CLIENT = """
import mailer, sys
sent = [mailer.send.delay("a@example.com") for _ in range(int(sys.argv[1]))]
found = [each.get(timeout=60, propagate=False) for each in sent]
print(*[each if isinstance(each, int) else type(each).__name__ for each in found])
"""


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Redis]:
    with Redis(BINARIES["valkey"], tmp_path / "redis") as found:
        yield found


@pytest.fixture
def reader(server: Server, broker: Redis, tmp_path: Path) -> Iterator[Reader]:
    ours = {"https://api.example.com": server.url, "redis://127.0.0.1:6379/0": broker.url}
    # Celery warns a root, and waits a second for other workers.
    start = {"celery --app mailer worker": "PYTHONWARNINGS=ignore celery --app mailer worker --without-mingle"}
    times = {"timeout=10)": "timeout=2, success_threshold=1)", "retry_spread=5": "retry_spread=1"}
    reader = Reader(tmp_path, {**ours, **start, **times})
    yield reader
    reader.close()


def test_rejected_tasks_of_all_children_wait_and_succeed_when_the_vendor_is_back(
    reader: Reader, server: Server, broker: Redis, tmp_path: Path
) -> None:
    server.act = answer(200, "sent")
    for block in blocks(PAGE):
        if block.title or block.language == "bash":
            reader.follow(block)
    log = tmp_path / "worker.log"
    environ = os.environ | {"CB_STATE_DIR": str(tmp_path), "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}

    def send(count: int) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", CLIENT, str(count)]
        return subprocess.Popen(command, cwd=tmp_path, env=environ, stdout=subprocess.PIPE, text=True)

    def children(text: str) -> set[str]:
        return {*re.findall(rf"ForkPoolWorker-(\d+)\] Task mailer.send\[\S+\] {text}", log.read_text())}

    until(lambda: len(send(16).communicate(timeout=60)[0].split()) == 16 and len(children("succeeded")) == CHILDREN)
    server.act = answer(500, "out of order")
    waiting = send(40)
    until(lambda: len(children("retry: Retry in .*CircuitOpen")) == CHILDREN)
    server.act = answer(200, "sent")

    results = waiting.communicate(timeout=60)[0].split()
    failed = [each for each in results if not each.isdecimal()]
    assert {*failed} == {"HTTPError"}
    assert len(failed) <= THRESHOLD + CHILDREN - 1
    assert len(results) == 40
