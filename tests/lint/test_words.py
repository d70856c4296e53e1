"""Docstrings and comments use the words of the field, not paraphrases of them."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

from testbed.paths import REPOSITORY

# What not to write, and what to write in its place.
WORDS = {
    r"tell|tells|telling|told|teller": "return, report, publish, log",
    r"hear|hears|heard": "watch, receive, list, check",
    r"trouble|troubles|hindrance|hindrances": "problem, conflict, error",
    r"anew|begun|once more": "again, retry, restart, started",
    r"somebody|nobody|whoever": "a caller, a client, a user, another controller",
    r"turns? away|turned away": "reject, refuse, drop",
}
FOLDERS = {"service/agent_service": (".py", ".lua"), "operator/agent_operator": (".py",), "dev": (".py",)}
FILES = [
    path
    for folder, suffixes in FOLDERS.items()
    for path in sorted((REPOSITORY / folder).rglob("*"))
    if path.suffix in suffixes
]


def prose(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the docstrings and comments of a file, each with its line."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".lua":
        yield from (
            (number, line) for number, line in enumerate(text.splitlines(), 1) if line.lstrip().startswith("--")
        )
        return
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.lineno, node.value.value


def faults(path: Path) -> Iterator[str]:
    """Yield each word of a file that is not to be written."""
    for line, text in prose(path):
        if text.startswith("Give "):
            yield f"{path}:{line}: 'Give': write Return"
        for words, instead in WORDS.items():
            if found := re.search(rf"\b({words})\b", re.sub(r"`[^`]*`|\"[^\"]*\"", "", text), re.IGNORECASE):
                yield f"{path}:{line}: '{found[0]}': write {instead}"


def test_docstrings_and_comments_use_plain_words() -> None:
    assert [fault for path in FILES for fault in faults(path)] == []
