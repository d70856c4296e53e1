"""The command blocks of the documents, and how each is accounted for: what runs it, or why nothing does.

A block of `bash`, `sh` or `console` is a command block. A comment directly before it accounts for it:

    <!-- run: node -->               tests/e2e/test_docs.py runs it, with those of its page, on a real cluster
    <!-- run: tests/…/test_….py -->  that test runs it
        <!-- not run: WHY -->            nothing runs it, for this reason

`<!-- all run: node -->` or `<!-- all not run: WHY -->` at the top of a page is for all its blocks without a comment.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

from testbed.paths import REPOSITORY

NODE = "node"
_COMMANDS = {"bash", "sh", "console"}
_OF_BLOCK = re.compile(r"<!-- (run|not run): (.+?) -->\s*\Z", re.DOTALL)
_OF_PAGE = re.compile(r"^<!-- all (run|not run): (.+?) -->$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A command block: its first line in its page, its text, and the comment before it (or for the whole page)."""

    page: Path
    line: int
    language: str
    text: str
    run_by: str | None
    reason: str | None

    @property
    def place(self) -> str:
        """Page and line, for failure messages."""
        return f"{self.page.relative_to(REPOSITORY)}:{self.line}"


def pages() -> list[Path]:
    """Return every page of the documentation."""
    return [
        REPOSITORY / "README.md",
        REPOSITORY / "CONTRIBUTING.md",
        *sorted((REPOSITORY / "docs").rglob("*.md")),
        *sorted((REPOSITORY / "helm").glob("*/README.md")),
        REPOSITORY / "releases" / "README.md",
    ]


def command_blocks(page: Path) -> list[Block]:
    """Return the command blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    default = _OF_PAGE.search(text)
    return [_block(page, token, _OF_BLOCK.search(before) or default) for token, before in _fences(text)]


def languages(page: Path) -> list[str]:
    """Return the languages of all fenced blocks of a page; an empty string where none is named."""
    tokens = MarkdownIt().parse(page.read_text(encoding="utf-8"))
    return [token.info.split()[0] if token.info.strip() else "" for token in tokens if token.type == "fence"]


def _fences(text: str) -> Iterator[tuple[Token, str]]:
    """Yield each command block with the comment directly before it."""
    before = ""
    for token in MarkdownIt().parse(text):
        if token.type == "fence" and token.info.strip() in _COMMANDS:
            yield token, before
        before = token.content if token.type == "html_block" else ""


def _block(page: Path, token: Token, marker: re.Match[str] | None) -> Block:
    kind, word = (marker[1], marker[2]) if marker else ("run", None)
    assert token.map is not None
    return Block(
        page=page,
        line=token.map[0] + 1,
        language=token.info.strip(),
        text=token.content,
        run_by=word if kind == "run" else None,
        reason=word if kind == "not run" else None,
    )
