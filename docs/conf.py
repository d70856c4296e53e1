"""The documents as a site: `make docs`. Sphinx with MyST, which reads the same Markdown as a code host shows."""

from importlib.metadata import version as _version

project = "Portside"
author = "The Portside authors"
release = version = _version("portside")
html_title = f"Portside {release}"

extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
# From the repository's root, so that links between all pages are the same here and on a code host.
root_doc = "docs/index"
include_patterns = ["README.md", "CHANGELOG.md", "docs/**", "helm/*/README.md", "releases/README.md"]

myst_enable_extensions = ["colon_fence", "attrs_inline"]
# Links to a heading, as a code host makes their anchors.
myst_heading_anchors = 4
# Pages begin at their title, and shown output is of many kinds.
suppress_warnings = ["myst.header", "misc.highlighting_failure"]
nitpicky = True

html_theme = "furo"
html_copy_source = False
html_show_sphinx = False
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_extra_path = ["_extra"]
# Nothing is asked of any other host, at build time or by who reads.
html_theme_options = {"source_repository": "", "footer_icons": []}
pygments_style = "friendly"
pygments_dark_style = "monokai"
