"""The documents' pictures: `python -m support.docs.picture` draws stale ones; `--check` lists them."""

import hashlib
import subprocess
import sys
from pathlib import Path

from testbed import system
from testbed.paths import REPOSITORY

DOCS = REPOSITORY / "docs"


def stale() -> list[Path]:
    """Return the sources whose picture is missing or drawn from another version of the source."""
    return [source for source in sorted(DOCS.rglob("*.dot")) if is_stale(_picture(source), source)]


def is_stale(picture: Path, source: Path) -> bool:
    """Return whether the picture is missing or drawn from another version of its source."""
    return not picture.exists() or mark(source).encode() not in picture.read_bytes()


def mark(source: Path) -> str:
    """Return what a picture records of its source: the hash of what it was drawn from."""
    return f"drawn from {source.name}, sha256 {hashlib.sha256(source.read_bytes()).hexdigest()}"


def draw(source: Path) -> None:
    """Draw a picture with Graphviz (Debian's package)."""
    system.need("dot")
    svg = subprocess.run(["dot", "-Tsvg", source], capture_output=True, text=True, check=True).stdout
    _picture(source).write_text(f"{svg.rstrip()}\n<!-- {mark(source)} -->\n")


def _picture(source: Path) -> Path:
    return DOCS / "images" / f"{source.stem}.svg"


if __name__ == "__main__":
    if "--check" in sys.argv[1:]:
        if stale():
            sys.exit(f"Stale pictures of: {', '.join(each.name for each in stale())}. Run `make picture`.")
    else:
        for each in stale():
            draw(each)
