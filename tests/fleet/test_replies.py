"""Parsing of replies: an invalid one is an error, and does not reach a ledger."""

import json

import pytest

from cb.fleet.messages import Reply

REPLY = {
    **dict.fromkeys(["generation", "operator", "rounds", "requests", "failures", "slow", "streak", "traffic"], 1),
    **dict.fromkeys(["bad", "streaks", "permits", "given", "succeeded", "failed", "thresholds_version", "lost"], 0),
    **dict.fromkeys(["thresholds", "damaged"]),
    "state": "OPEN",
    "remaining": 5,
    "reason": "x",
}


def test_reply_of_the_script_is_parsed() -> None:
    assert Reply.parse(json.dumps(REPLY).encode()).remaining == 5


@pytest.mark.parametrize(
    "reply",
    [
        *(None, 1, b"", "x", [], [b"{}"], b"\xff", b"null", b"[]", b"{}", b"[" * 100_000, b'{"a":' * 100_000),
        json.dumps(REPLY)[:-1],
        json.dumps(REPLY | {"more": 1}),
        json.dumps({name: value for name, value in REPLY.items() if name != "slow"}),
        *(json.dumps(REPLY | {"generation": value}) for value in (None, "1", 1.5, True, -1, 2**50, float("nan"), [])),
        *(json.dumps(REPLY | {"state": value}) for value in (None, 1, "BOGUS", ["OPEN"], {"OPEN": 1})),
        *(json.dumps(REPLY | {"remaining": value}) for value in ("5", 10**20, -(10**20), 0.5, False)),
        *(json.dumps(REPLY | {name: 1}) for name in ("reason", "thresholds", "damaged")),
        json.dumps(REPLY).replace('"slow": 1', f'"slow": {"9" * 5000}'),
    ],
)
def test_invalid_reply_is_an_error(reply: object) -> None:
    with pytest.raises(ValueError, match=r"."):
        Reply.parse(reply)
