"""The quick paths of functions and of coroutines, which are written twice. docs/rules.md, rule 10."""

import ast
import inspect
import textwrap
from collections.abc import Callable
from typing import Any

from cb import CircuitBreaker


class _Synchronous(ast.NodeTransformer):
    """Rewrites a coroutine function to a function, and `admit_async` to `admit`."""

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> Any:
        plain = ast.FunctionDef(**{name: getattr(node, name) for name in node._fields})
        return self.generic_visit(ast.copy_location(plain, node))

    def visit_Await(self, node: ast.Await) -> Any:
        return self.visit(node.value)

    def visit_Attribute(self, node: ast.Attribute) -> Any:
        node.attr = node.attr.removesuffix("_async")
        return self.generic_visit(node)


def test_quick_paths_of_functions_and_coroutines_are_the_same_statements() -> None:
    def body(method: Callable[..., Any]) -> str:
        tree = ast.parse(textwrap.dedent(inspect.getsource(method)))
        function: Any = tree.body[0]
        return "\n".join(ast.unparse(_Synchronous().visit(each)) for each in function.body)

    assert body(CircuitBreaker._guard_async) == body(CircuitBreaker._guard)  # noqa: SLF001 - their source is compared
