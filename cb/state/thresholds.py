"""The thresholds in force, kept in the row so that every process has the same.

Code asks for a configuration when it makes a breaker; an operator may change it while the service runs. The change
holds until code asks for another one than before: a worker that restarts does not undo it, a new release does.
"""

import json
import zlib
from dataclasses import asdict

from cb.config import BreakerConfig, nanoseconds
from cb.errors import CircuitError
from cb.ledger import layout as at
from cb.ledger.record import Record
from cb.states import State

_VERSION = 0xFFF8  # the bits of WORD that change with the configuration


def adopt(row: Record, asked: BreakerConfig, now: int) -> bool:
    """Put the code's configuration in force if it is another one than before. Caller holds the ledger lock.

    Returns whether the row is new.
    """
    source = _digest(asked)
    before = row.head[at.CONFIG_DIGEST]
    if before == 0:
        row.head[at.SLICE] = _slice(asked)
    if before != source:
        write(row, asked, now)
        if asked.initial_state == State.CLOSED or before:
            row.head[at.CONFIG_DIGEST] = source
    return before == 0


def adopted(row: Record, asked: BreakerConfig) -> None:
    """Note that a new row is in its initial state. Caller holds the ledger lock."""
    row.head[at.CONFIG_DIGEST] = _digest(asked)


def write(row: Record, config: BreakerConfig, now: int) -> None:
    """Put a configuration in force for all processes. Caller holds the ledger lock."""
    head, length = row.head, _slice(config)
    at.put_text(head, at.CONFIG, at.CONFIG_CELLS, _text(config))
    if head[at.SLICE] != length:
        head[at.SLICE], head[at.ORIGIN] = length, now + 1  # slices of another length do not fit this window
    word = head[at.WORD]
    head[at.QUIET] = head[at.QUIET_UNTIL] = 0
    # No tally knows the new word, so that every next call comes by the slow way and reads the new thresholds.
    head[at.WORD] = word & ~_VERSION | (word + 8) & _VERSION


def read(row: Record, default: BreakerConfig) -> BreakerConfig:
    """Return the configuration in force, or `default` where its text is damaged."""
    try:
        return BreakerConfig(**json.loads(at.get_text(row.head, at.CONFIG, at.CONFIG_CELLS)))
    except (ValueError, TypeError, CircuitError):
        return default


def version(word: int) -> int:
    """Return the part of a WORD that changes with the configuration."""
    return word & _VERSION


def _digest(config: BreakerConfig) -> int:
    return zlib.crc32(_text(config).encode()) + 1


def _slice(config: BreakerConfig) -> int:
    return max(nanoseconds(config.interval) // at.SLICES, 1)


def _text(config: BreakerConfig) -> str:
    return json.dumps(asdict(config), separators=(",", ":"))
