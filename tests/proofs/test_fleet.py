"""A short proof; `python -m tests.proofs.fleet` is the whole one."""

import pytest

from tests.proofs.fleet import Proof

pytestmark = pytest.mark.quiet


def test_leak_propagation_probes_and_latency_of_a_fleet_stay_within_their_limits() -> None:
    # A machine that does other things too is not the place for a tenth: that nobody waits for the server shows anyhow.
    result = Proof(thresholds=(400,), openings=3, probing=1, bursts=7, calls=5000, slowdown=2).run()
    assert result["problems"] == []
