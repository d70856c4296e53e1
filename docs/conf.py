"""The documents as a site: `make docs`. Sphinx with MyST, which reads the same Markdown as a code host shows."""

from importlib.metadata import version as _version

project = "Portside"
author = "The Portside authors"
release = version = _version("portside")
html_title = f"Portside {release}"

extensions = ["myst_parser", "sphinx_reredirects"]
source_suffix = {".md": "markdown"}
# From the repository's root, so that links between all pages are the same here and on a code host.
root_doc = "docs/index"
include_patterns = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "docs/**", "helm/*/README.md", "releases/README.md"]

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

# Where each page of before 0.3 is now. The fragment of the old address is kept, as alerts link to a section.
redirects = {
    "docs/adoption": "how-to/move-between-helm-and-operator.html",
    "docs/agent-api": "how-to/call-an-agent.html",
    "docs/architecture": "contributing/architecture.html",
    "docs/benchmarks": "explanation/benchmarks.html",
    "docs/compose": "how-to/run-with-compose.html",
    "docs/decisions": "contributing/decisions/index.html",
    "docs/howto/expose-an-agent": "../how-to/expose-an-agent.html",
    "docs/howto/gitops": "../how-to/gitops.html",
    "docs/howto/move-from-a-deployment": "../how-to/move-from-a-deployment.html",
    "docs/howto/move-from-kagent": "../how-to/move-from-kagent.html",
    "docs/howto/private-registry": "../how-to/private-registry.html",
    "docs/howto/redis-and-workers": "../how-to/redis-and-workers.html",
    "docs/howto/rotate-a-key": "../how-to/rotate-a-key.html",
    "docs/howto/scale-on-load": "../how-to/scale-on-load.html",
    "docs/howto/set-a-budget": "../how-to/set-a-budget.html",
    "docs/howto/trace-agents": "../how-to/trace-agents.html",
    "docs/howto/upgrade": "../how-to/upgrade.html",
    "docs/howto/watch-agents": "../how-to/watch-agents.html",
    "docs/images": "contributing/images.html",
    "docs/limits": "explanation/limits.html",
    "docs/objects": "reference/objects.html",
    "docs/observability": "reference/observability.html",
    "docs/operator-availability": "explanation/operator-availability.html",
    "docs/operator-rbac": "reference/operator-rbac.html",
    "docs/paas": "how-to/run-on-a-container-platform.html",
    "docs/policies": "how-to/restrict-agents.html",
    "docs/releasing": "contributing/releasing.html",
    "docs/runbook": "how-to/operate-the-operator.html",
    "docs/runbooks": "how-to/alerts.html",
    "docs/security": "explanation/security.html",
    "docs/settings": "explanation/settings.html",
    "docs/skaffold": "contributing/skaffold.html",
    "docs/tasks": "explanation/tasks.html",
    "docs/testbed": "contributing/testbed.html",
    "docs/tools": "reference/kubectl-agent.html",
    "docs/troubleshooting": "how-to/troubleshoot.html",
    "docs/tutorial": "tutorials/first-agent.html",
    "docs/walkthrough": "tutorials/with-kubectl.html",
}
