"""Sources of the project, parsed when a test needs them: at import, every process of a run would parse all."""

import ast
from functools import cache
from pathlib import Path


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())
