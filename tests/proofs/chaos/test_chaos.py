"""A short chaos run on each database, and planted bugs; `make chaos` runs longer, with all bugs."""

from pathlib import Path

import pytest

from tests.proofs.chaos.run import Run

SECONDS = 4


def test_acknowledged_trades_are_neither_lost_nor_booked_twice_on_sqlite(tmp_path: Path) -> None:
    report = Run(tmp_path, seconds=SECONDS, seed=1).report()
    assert not report.broken, str(report)


@pytest.mark.nightly
def test_acknowledged_trades_are_neither_lost_nor_booked_twice_on_postgresql(tmp_path: Path) -> None:
    report = Run(tmp_path, seconds=SECONDS, seed=2, database="postgresql").report()
    assert not report.broken, str(report)


@pytest.mark.nightly
@pytest.mark.parametrize(("bug", "broken"), [("timeout-is-rejection", "I2"), ("mark-before-delivery", "I10")])
def test_planted_bug_is_found(bug: str, broken: str, tmp_path: Path) -> None:
    report = Run(tmp_path, seconds=30, seed=1, bug=bug).report()
    assert broken in report.broken, str(report)
