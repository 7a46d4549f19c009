"""Answers of a server that are none: each is a FleetError, and nothing of it reaches a ledger."""

import json

import pytest

from cb.fleet.messages import Reply

ANSWER = {
    **dict.fromkeys(["generation", "operator", "rounds", "requests", "failures", "slow", "streak", "traffic"], 1),
    **dict.fromkeys(["bad", "streaks", "permits", "given", "succeeded", "failed", "thresholds_version", "lost"], 0),
    **dict.fromkeys(["thresholds", "damaged"]),
    "state": "OPEN",
    "remaining": 5,
    "reason": "x",
}


def test_answer_of_the_script_is_a_view() -> None:
    assert Reply.parse(json.dumps(ANSWER).encode()).remaining == 5


@pytest.mark.parametrize(
    "answer",
    [
        *(None, 1, b"", "x", [], [b"{}"], b"\xff", b"null", b"[]", b"{}", b"[" * 100_000, b'{"a":' * 100_000),
        json.dumps(ANSWER)[:-1],
        json.dumps(ANSWER | {"more": 1}),
        json.dumps({name: value for name, value in ANSWER.items() if name != "slow"}),
        *(json.dumps(ANSWER | {"generation": value}) for value in (None, "1", 1.5, True, -1, 2**50, float("nan"), [])),
        *(json.dumps(ANSWER | {"state": value}) for value in (None, 1, "BOGUS", ["OPEN"], {"OPEN": 1})),
        *(json.dumps(ANSWER | {"remaining": value}) for value in ("5", 10**20, -(10**20), 0.5, False)),
        *(json.dumps(ANSWER | {name: 1}) for name in ("reason", "thresholds", "damaged")),
        json.dumps(ANSWER).replace('"slow": 1', f'"slow": {"9" * 5000}'),
    ],
)
def test_answer_that_no_script_gives_is_refused(answer: object) -> None:
    with pytest.raises(ValueError, match=r"."):
        Reply.parse(answer)
