"""The documents' pictures: `python -m docs_bed.picture` draws those that are stale; `--check` names them."""

import hashlib
import subprocess
import sys
from pathlib import Path

from testbed import system
from testbed.paths import REPOSITORY

DOCS = REPOSITORY / "docs"


def stale() -> list[Path]:
    """The sources whose picture is missing or of another source: a picture names the hash of what it was drawn from."""
    return [source for source in sorted(DOCS.glob("*.dot")) if _mark(source) not in _drawn(source)]


def draw(source: Path) -> None:
    """Draw a picture with Graphviz (Debian's package)."""
    system.need("dot")
    svg = subprocess.run(["dot", "-Tsvg", source], capture_output=True, text=True, check=True).stdout
    _picture(source).write_text(f"{svg.rstrip()}\n{_mark(source)}\n")


def _mark(source: Path) -> str:
    return f"<!-- drawn from {source.name}, sha256 {hashlib.sha256(source.read_bytes()).hexdigest()} -->"


def _picture(source: Path) -> Path:
    return DOCS / "images" / f"{source.stem}.svg"


def _drawn(source: Path) -> str:
    return _picture(source).read_text() if _picture(source).exists() else ""


if __name__ == "__main__":
    if "--check" in sys.argv[1:]:
        if stale():
            sys.exit(f"Stale pictures of: {', '.join(each.name for each in stale())}. Run `make picture`.")
    else:
        for each in stale():
            draw(each)
