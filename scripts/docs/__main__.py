"""Write the state diagram: `python -m scripts.docs`. Print figures about docstrings: `... prose [FOLDER]`."""

import sys
from pathlib import Path

from .picture import svg
from .prose import PACKAGES, figures

#: File of the diagram; a test compares it with the code.
PICTURE = Path(__file__).resolve().parents[2] / "docs" / "images" / "state-machine.svg"


def main(arguments: list[str]) -> None:
    """Write the diagram, or print the figures of all packages, or of one folder with each docstring to rewrite."""
    match arguments:
        case []:
            PICTURE.write_text(svg())
        case ["prose"]:
            print(*map(figures, PACKAGES), sep="\n")
        case ["prose", folder]:
            found = figures(folder)
            for each in [*found.openings, *found.with_what]:
                print(f"{each.place}: {each.text.splitlines()[0]}")
            print(found)
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
