"""Writes the picture of the states: `python -m scripts.docs`."""

from pathlib import Path

from .picture import svg

#: which tests compare with the code
PICTURE = Path(__file__).resolve().parents[2] / "docs" / "images" / "state-machine.svg"

if __name__ == "__main__":
    PICTURE.write_text(svg())
