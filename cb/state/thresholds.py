"""The thresholds in force, kept in the record so that all processes use the same.

A breaker is created with a configuration; an operator may change it while the service runs. The change holds until a
breaker is created with another configuration than before: a worker that restarts does not undo it, a new release does.
"""

import json
import zlib
from dataclasses import asdict, fields

from cb.config import BreakerConfig, nanoseconds
from cb.errors import CircuitError
from cb.ledger import layout as at
from cb.ledger.record import Record
from cb.states import State

_VERSION = 0xFFF8  # the bits of WORD that change with the configuration


def adopt(record: Record, config: BreakerConfig, now: int) -> bool:
    """Put a breaker's configuration in force if it differs from the one before. Caller holds the ledger lock.

    Returns True if the record is new.
    """
    source = digest(config)
    before = record.head[at.CONFIG_DIGEST]
    if before == 0:
        record.head[at.SLICE] = _slice(config)
    if before != source:
        write(record, config, now)
        if config.initial_state == State.CLOSED or before:
            record.head[at.CONFIG_DIGEST] = source
    return before == 0


def adopted(record: Record, config: BreakerConfig) -> None:
    """Note that a new record is in its initial state. Caller holds the ledger lock."""
    record.head[at.CONFIG_DIGEST] = digest(config)


def write(record: Record, config: BreakerConfig, now: int) -> None:
    """Put a configuration in force for all processes. Caller holds the ledger lock."""
    head, length = record.head, _slice(config)
    at.put_text(head, at.CONFIG, at.CONFIG_CELLS, _text(config))
    if head[at.SLICE] != length:
        head[at.SLICE], head[at.ORIGIN] = length, now + 1  # slices of another length do not fit this window
    word = head[at.WORD]
    head[at.QUIET] = head[at.QUIET_UNTIL] = 0
    # No counters match the new word, so that each next call takes the slow path and reads the new thresholds.
    head[at.WORD] = word & ~_VERSION | (word + 8) & _VERSION


def read(record: Record, default: BreakerConfig) -> BreakerConfig:
    """Return the configuration in force, or `default` where its text is damaged."""
    try:
        return BreakerConfig(**json.loads(at.get_text(record.head, at.CONFIG, at.CONFIG_CELLS)))
    except (ValueError, TypeError, CircuitError):
        return default


def difference(config: BreakerConfig, other: BreakerConfig) -> str:
    """Return the settings in which a configuration differs from another, with both values; empty if in none."""
    pairs = ((each.name, getattr(config, each.name), getattr(other, each.name)) for each in fields(config))
    return ", ".join(f"{name} = {value} (was {before})" for name, value, before in pairs if value != before)


def version(word: int) -> int:
    """Return the part of a WORD that changes with the configuration."""
    return word & _VERSION


def digest(config: BreakerConfig) -> int:
    """Return the CONFIG_DIGEST of a configuration."""
    return zlib.crc32(_text(config).encode()) + 1


def _slice(config: BreakerConfig) -> int:
    return max(nanoseconds(config.interval) // at.SLICES, 1)


def _text(config: BreakerConfig) -> str:
    return json.dumps(asdict(config), separators=(",", ":"))
