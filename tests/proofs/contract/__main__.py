"""`python -m tests.proofs.contract write` writes the documents into docs/openapi; with other arguments it tries them.

Those are the options of `schemathesis run`, such as `--max-examples 1000`.
"""

import sys

from tests.proofs.contract.documents import write
from tests.proofs.contract.run import main

if sys.argv[1:] == ["write"]:
    write()
else:
    sys.exit(main(*sys.argv[1:]))
