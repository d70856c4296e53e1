"""The documentation site: it builds without a warning or a broken link, and requests nothing from other hosts."""

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from support.docs import dashboards, picture
from testbed.paths import REPOSITORY

LOADED = {"script": "src", "img": "src", "iframe": "src", "link": "href", "source": "src"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site. A warning, such as one of a broken link, fails the build."""
    folder = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "sphinx", "-c", "docs", "-n", "-W", "--keep-going", "-q", ".", str(folder)]
    done = subprocess.run(build, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


class _Loads(HTMLParser):
    """Collects what a page makes a browser load at once."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        address = dict(attrs).get(LOADED.get(tag, ""))
        if address and dict(attrs).get("rel") not in {"search", "index", "next", "prev", "canonical"}:
            self.found.append(address)


def test_every_page_is_in_the_site_and_loads_nothing_from_other_hosts(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 30
    for page in pages:
        loads = _Loads()
        loads.feed(page.read_text(encoding="utf-8"))
        assert [address for address in loads.found if re.match(r"(https?:)?//", address)] == []
    for sheet in site.rglob("*.css"):
        assert not re.search(r"url\(\s*['\"]?(https?:)?//", sheet.read_text(encoding="utf-8"))


def test_the_first_page_links_to_the_documents(site: Path) -> None:
    assert 'href="docs/index.html"' in (site / "index.html").read_text()
    assert "Portside puts AI agents on Kubernetes" in (site / "docs" / "index.html").read_text()


def test_addresses_of_earlier_versions_redirect_to_the_current_page(site: Path) -> None:
    redirect = re.compile(r'var target = "([^"]+)"')
    moved = {page: found[1] for page in site.rglob("*.html") if (found := redirect.search(page.read_text()))}

    assert len(moved) >= 38
    for page, target in moved.items():
        assert (page.parent / target).resolve().is_file(), f"{page} leads to {target}"
    alerts = (site / "docs" / "runbooks.html").read_text()
    assert 'target = "how-to/alerts.html"' in alerts
    # Alerts link to a section.
    assert "target + window.location.hash" in alerts


def test_pictures_match_their_sources() -> None:
    assert picture.stale() == [], "run `make picture`"
    assert dashboards.stale() == [], "run `make pictures-of-dashboards`"
