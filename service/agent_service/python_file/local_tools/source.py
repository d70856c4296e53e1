"""What a Python file defines, read from its source. The file does not run, because this process has the secrets."""

import ast
from collections.abc import Iterator
from pathlib import Path

_PACKAGE = "portside"
_DECORATOR = "tool"
_LARGEST_BYTES = 4 * 2**20


def offers_tools(file: Path) -> bool:
    """Return whether a file has functions with `@tool` and no `answer`.

    A file that cannot be read or parsed is none of these: the process that runs it reports the error.
    """
    try:
        if file.stat().st_size > _LARGEST_BYTES:
            return False
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError):
        return False
    return not any("answer" in _bound(node) for node in _statements(tree)) and any(_decorated(tree))


def redefined(source: str) -> tuple[str, int] | None:
    """Return the name and line of a tool that has the name of an earlier one, which it would replace; else None."""
    tree = ast.parse(source)
    seen: set[tuple[int, str]] = set()
    for block, function in _decorated(tree):
        # Not in another block: the branches of an `if` may define the same tool.
        if (block, function.name) in seen:
            return function.name, function.lineno
        seen.add((block, function.name))
    return None


def _statements(tree: ast.Module) -> Iterator[ast.stmt]:
    """Yield the statements that run at the top level, also below `if`, `try` and `with`."""
    for _, statement in _blocks(tree):
        yield statement


def _blocks(node: ast.AST) -> Iterator[tuple[int, ast.stmt]]:
    for name in ("body", "orelse", "handlers", "finalbody", "cases"):
        block = getattr(node, name, None)
        for each in block if isinstance(block, list) else ():
            if isinstance(each, ast.stmt):
                yield id(block), each
            if not isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                yield from _blocks(each)


def _decorated(tree: ast.Module) -> Iterator[tuple[int, ast.FunctionDef | ast.AsyncFunctionDef]]:
    names = _decorators(tree)
    for block, each in _blocks(tree):
        if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef):
            marks = (mark.func if isinstance(mark, ast.Call) else mark for mark in each.decorator_list)
            if any(ast.unparse(mark) in names for mark in marks):
                yield block, each


def _decorators(tree: ast.Module) -> set[str]:
    """Return the names that the file has for the decorator, such as `tool` and `portside.tool`."""
    found = set()
    for each in _statements(tree):
        if isinstance(each, ast.ImportFrom) and each.module == _PACKAGE:
            found |= {alias.asname or alias.name for alias in each.names if alias.name == _DECORATOR}
        elif isinstance(each, ast.Import):
            found |= {f"{alias.asname or alias.name}.{_DECORATOR}" for alias in each.names if alias.name == _PACKAGE}
    return found


def _bound(statement: ast.stmt) -> set[str]:
    """Return the names that a statement defines."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {statement.name}
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return {alias.asname or alias.name for alias in statement.names}
    if isinstance(statement, ast.Assign | ast.AnnAssign):
        return {
            node.id for node in ast.walk(statement) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
        }
    return set()
