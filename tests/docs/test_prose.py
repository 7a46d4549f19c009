"""Docstrings are in plain technical English. `make lint` has the list of words for all other text."""

import pytest

from scripts.docs.prose import PACKAGES, WHAT_PER_1000, Docstring, Figures, figures


@pytest.mark.parametrize("folder", PACKAGES)
def test_docstrings_open_with_the_thing_or_the_verb(folder: str) -> None:
    found = figures(folder)
    assert found.words > 100
    assert not [f"{each.place}: {each.text}" for each in found.openings]


@pytest.mark.parametrize("folder", PACKAGES)
def test_docstrings_name_things_instead_of_saying_what(folder: str) -> None:
    found = figures(folder)
    assert found.what_per_1000 < WHAT_PER_1000, "\n".join(f"{each.place}: {each.text}" for each in found.with_what)


@pytest.mark.parametrize(
    ("text", "opens"),
    [
        ("What a caller gets.", True),
        ("Whether it is open.", True),
        ("Whose it is.", True),
        ("how many there are", True),
        ("Return what was sent.", False),
        ("Whole rows.", False),
        ("However long it takes.", False),
    ],
)
def test_opening_with_a_question_word_is_found(text: str, opens: bool) -> None:
    assert bool(Figures("cb", [Docstring("a.py:1", text)]).openings) is opens


def test_rate_counts_each_what_among_all_words() -> None:
    found = Figures("cb", [Docstring("a.py:1", "Return what is what."), Docstring("b.py:1", "One two three four.")])
    assert found.what_per_1000 == 250
    assert [each.place for each in found.with_what] == ["a.py:1"]
