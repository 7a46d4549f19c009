"""The table of cells through which a host and its agent communicate, in the docstring of `cb/fleet/member.py`."""

import ast
import re
from pathlib import Path

from cb.fleet import member
from cb.ledger import layout

FLEET = Path(member.__file__).parent
PACKAGE = FLEET.parent


def cells_used(path: Path) -> set[str]:
    """Return the names of `layout` that a module uses as the number of a cell: `at.WORD`, `layout.WORD`."""
    return {
        node.attr
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id in ("at", "layout")
        and isinstance(getattr(layout, node.attr, None), int)
    }


def cells_of_table() -> dict[str, tuple[str, str]]:
    """Return the writers and the readers of each cell of the table."""
    rows = [
        row.groups()
        for row in re.finditer(r"^([A-Z][A-Z_, ]*?)  +([a-z, ]+?)  +([a-z, ]+?)  +", member.__doc__ or "", re.MULTILINE)
    ]
    return {cell: (writer, reader) for cells, writer, reader in rows for cell in cells.split(", ")}


def test_each_cell_that_the_agent_reads_or_writes_is_in_the_table() -> None:
    used = {cell for path in FLEET.glob("*.py") for cell in cells_used(path)}
    assert {"WORD", "H_WAKE_AGENT", "FLEET_CONTROLLED"} <= used
    assert used - cells_of_table().keys() == set()


def test_each_cell_of_the_table_is_one_of_the_ledger_with_an_agent_on_one_side() -> None:
    for cell, (writer, reader) in cells_of_table().items():
        assert isinstance(getattr(layout, cell, None), int), cell
        assert "agent" in writer + reader, cell


def test_writers_and_readers_of_the_table_are_those_of_the_code() -> None:
    everywhere = {path: cells_used(path) for path in PACKAGE.rglob("*.py")}
    operator = everywhere[PACKAGE / "control.py"] | everywhere[PACKAGE / "circuit.py"]
    outside = {cell for path, used in everywhere.items() if path.parent != FLEET for cell in used}
    for cell, (writer, reader) in cells_of_table().items():
        sides = {side for column in (writer, reader) for side in column.split(", ")}
        assert sides <= {"agent", "call", "operator", "ledger"}, cell
        assert (sides == {"agent"}) <= (cell not in outside), f"{cell} is used outside of the fleet, too"
        assert (cell in operator and cell.startswith(("PUBLISH", "EXEMPT"))) == (writer.startswith("operator")), cell
