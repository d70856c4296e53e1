"""Every command in the documents is run by a test, or has a reason why it is not."""

import re
from pathlib import Path

import pytest

from support.docs import NODE, command_blocks, languages, pages
from testbed.paths import REPOSITORY

PAGES = pages()
AGENT_CRD = "agentdeployments.portside.dev"
NAMES = [str(page.relative_to(REPOSITORY)) for page in PAGES]


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_block_names_its_language_and_every_command_block_its_test(page: Path) -> None:
    assert "" not in languages(page), "a block that names no language: `text`, if it is none"
    unaccounted = [block.place for block in command_blocks(page) if block.run_by is None and block.reason is None]
    assert unaccounted == [], "state what runs it, or why nothing does: see tests/support/docs"


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_a_referenced_test_reads_the_page(page: Path) -> None:
    named = {block.run_by for block in command_blocks(page)} - {None, NODE}
    for test in named:
        assert page.name in (REPOSITORY / str(test)).read_text(encoding="utf-8")


def test_every_log_line_that_a_runbook_quotes_exists_in_the_code() -> None:
    """A quoted log line is in double quotes, on a line that mentions a log or a restart."""
    code = "".join(
        file.read_text(encoding="utf-8")
        for package in ("operator/agent_operator", "service/agent_service")
        for file in (REPOSITORY / package).rglob("*.py")
    )
    lines = [line for page in PAGES for line in page.read_text(encoding="utf-8").splitlines()]
    quoted = [text for line in lines for text in re.findall(r'(?:logs?\b|restart with)[^"]*"([^"$`{}]+)"', line)]
    quoted += [text for line in lines for text in re.findall(r'"([^"$`{}]+)" in the log', line)]
    assert len(quoted) >= 5
    assert [
        text
        for text in quoted
        if text not in code and text.replace(AGENT_CRD, "{AGENT.plural}.{AGENT.group}") not in code
    ] == []


def test_an_unaccounted_block_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("Text.\n\n```bash\nls\n```\n\n<!-- not run: needs a cloud -->\n```sh\nls\n```\n")
    first, second = command_blocks(page)
    assert (first.run_by, first.reason) == (None, None)
    assert (second.run_by, second.reason) == (None, "needs a cloud")


def test_a_comment_of_the_page_covers_blocks_without_one(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    blocks = "```bash\nls\n```\n\n<!-- not run: why -->\n```bash\nls\n```\n"
    page.write_text(f"<!-- all run: node -->\n\n# Page\n\n{blocks}")
    assert [(block.run_by, block.reason) for block in command_blocks(page)] == [("node", None), (None, "why")]
