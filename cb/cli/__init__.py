"""The command `cb`: looks at the breakers of this host and steers them, also while no service answers.

It reads the ledger files. Only `open`, `close`, `disable`, `shadow` and `reset` write to them.
"""

from .commands import main

__all__ = ["main"]
