"""A short version of the measurements of `python -m tests.proofs.fleet`."""

import pytest

from tests.proofs.fleet import Proof

pytestmark = pytest.mark.quiet


def test_leak_propagation_probes_and_latency_of_a_fleet_stay_within_their_limits() -> None:
    # The slowdown limit is loose because other tests run at the same time; waiting for the server would exceed it.
    result = Proof(thresholds=(400,), openings=3, probing=1, bursts=7, calls=5000, slowdown=2).run()
    assert result["problems"] == []
