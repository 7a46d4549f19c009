"""The picture and the table of docs/state-machine.md, compared with the transitions of real circuits."""

import re

from scripts.docs.__main__ import PICTURE
from scripts.docs.picture import svg
from scripts.docs.transitions import by_itself, by_operator
from tests.support import ROOT

PAGE = (ROOT / "docs" / "state-machine.md").read_text()
ROWS = re.findall(r"^\| (\w+) \| ([\w, ]+) \| [^|]+ \| (?:`(.+)`|[^|]+) \|$", PAGE, re.MULTILINE)


def test_picture_shows_the_changes_that_circuits_make() -> None:
    assert PICTURE.read_text() == svg(), "make docs draws it anew"


def test_table_has_every_change_that_calls_and_time_make_and_what_its_event_says() -> None:
    found = {(before, after, reason) for (before, after), reasons in by_itself().items() for reason in reasons}
    assert {row for row in ROWS if row[2]} == found


def test_table_has_every_state_that_an_operator_may_choose() -> None:
    assert {after for before, names, _ in ROWS if before == "any" for after in names.split(", ")} == by_operator()
