"""The command `cb`: shows and controls the breakers of this host, also while no service answers.

It reads the ledger files. Only `force-open`, `disable`, `metrics-only`, `reset` and `configure` write to them, and
`forget` removes them.
"""

from .commands import main

__all__ = ["main"]
