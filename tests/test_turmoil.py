"""A short turmoil; `make prove` runs a whole minute of it."""

from tests.turmoil import main


def test_processes_killed_stopped_and_replaced_under_load_leave_nothing_wrong() -> None:
    result = main(6, seed=2)
    assert result["problems"] == []
    assert int(str(result["kills"])) > 5
    assert int(str(result["rounds"])) > 0
