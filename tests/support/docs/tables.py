"""The tables of the generated references."""

import re

from testbed.paths import REPOSITORY

REFERENCE = REPOSITORY / "docs" / "reference"


def rows(name: str) -> dict[str, list[str]]:
    """Return the rows of a reference's tables, by the first name in their first cell."""
    lines = [line for line in (REFERENCE / name).read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    return {row[0].split("`")[1]: row for row in cells if "`" in row[0]}
