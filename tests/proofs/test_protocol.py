"""The protocol between processes, model-checked. tests/proofs/protocol/README.md lists the properties."""

import pytest

from tests.proofs.protocol.check import VARIANTS, check, missing


def test_protocol_holds_and_its_mutants_do_not() -> None:
    """Runs the searches of a second or so; `make prove` runs all of them."""
    if lack := missing():
        pytest.skip(lack)
    wrong = [result for result in check([variant for variant in VARIANTS if variant.short]) if not result.right]
    assert not wrong, "\n".join(f"{one.variant.name}: {one.said}, not: {one.variant.expected}" for one in wrong)
