"""Names, messages, comments and docs use the words of the field, not paraphrases of them."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

from testbed.paths import REPOSITORY

HERE = Path(__file__)
# What not to write, and what to write in its place.
WORDS = {
    "tell|tells|telling|told|teller": "return, report, publish, log",
    "hear|hears|heard": "watch, receive, list, check",
    "trouble|troubles|hindrance|hindrances": "problem, conflict, error",
    "anew|begun|once more": "again, retry, restart, started",
    "somebody|nobody|whoever": "a caller, a client, a user, another controller",
    "turns? away|turned away": "reject, refuse, drop",
}
# Folders and files, with the kinds of files that are read in them.
READ = {
    "service/agent_service": (".py", ".lua", ".js"),
    "operator/agent_operator": (".py",),
    "dev": (".py",),
    "tests": (".py", ".lua", ".js"),
    "helm": (".yaml", ".tpl", ".txt", ".md"),
    "manifests": (".yaml",),
    ".github": (".yaml",),
    "docs": (".md",),
    ".": (".md", ".yaml"),
}
# Code, and the stand-in's answer to every message, which tests and tutorials quote.
QUOTED = re.compile(r'`[^`]*`|Stand-in heard|\bheard "')
# A technical use, by file.
ALLOWED = {
    "service/agent_service/tasks/lua/task.lua": {"heard"},  # a key in Redis that earlier versions read
    "tests/service/test_damaged_records.py": {"heard"},  # the same key
}


def files() -> Iterator[Path]:
    """Yield every file that is read: all but this one, which lists the words."""
    for folder, suffixes in READ.items():
        found = (REPOSITORY / folder).glob("*" if folder == "." else "**/*")
        yield from sorted(path for path in found if path.suffix in suffixes and path.is_file() and path != HERE)


def prose(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the text of a file that people read, each piece with its line."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        yield from _of_python(text)
        return
    in_code = False
    for number, line in enumerate(text.splitlines(), 1):
        in_code ^= path.suffix == ".md" and line.startswith("```")
        if not in_code:
            yield number, line


def _of_python(text: str) -> Iterator[tuple[int, str]]:
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string
        if token.type == tokenize.NAME:
            yield token.start[0], token.string.replace("_", " ")
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value


def faults(path: Path) -> Iterator[str]:
    """Yield each word of a file that is not to be written."""
    name = str(path.relative_to(REPOSITORY))
    for line, text in prose(path):
        if text.startswith("Give "):
            yield f"{name}:{line}: 'Give': write Return"
        for words, instead in WORDS.items():
            found = re.search(rf"\b({words})\b", QUOTED.sub("", text), re.IGNORECASE)
            if found and found[0].lower() not in ALLOWED.get(name, set()):
                yield f"{name}:{line}: '{found[0]}': write {instead}"


def test_names_and_prose_use_plain_words() -> None:
    assert [fault for path in files() for fault in faults(path)] == []
