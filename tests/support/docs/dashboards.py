"""Pictures of the dashboards: their panels, queries and legends, drawn from a Prometheus with matplotlib.

They do not copy Grafana's look, but they show what its panels would: the same lines and names in the same places.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, Formatter, MaxNLocator, PercentFormatter, StrMethodFormatter

from support.docs.picture import DOCS, is_stale, mark
from testbed.paths import REPOSITORY

DASHBOARDS = REPOSITORY / "helm" / "agent-operator" / "files" / "dashboards"
# The values that Grafana substitutes for its own variables, for a Prometheus that scrapes its targets every second.
RATE_INTERVAL = "20s"
# Longer names go below each other, as two of them would be wider than the panel.
LONG = 30
# Size of a column and a row of Grafana's grid, in inches.
_COLUMN, _ROW = 0.6, 0.36
# The label of the axis for each of Grafana's panel units.
_UNITS: dict[str, Callable[[], Formatter]] = {
    "bytes": lambda: EngFormatter("B"),
    "ops": lambda: StrMethodFormatter("{x:g}/s"),
    "percentunit": lambda: PercentFormatter(1),
    "reqps": lambda: StrMethodFormatter("{x:g}/s"),
    "s": lambda: EngFormatter("s"),
    "short": lambda: StrMethodFormatter("{x:g}"),
}


@dataclass(frozen=True)
class Series:
    """A result of a query: labels, and values at times (in minutes; -1 is a minute ago)."""

    labels: dict[str, str]
    minutes: list[float]
    values: list[float]


def sources() -> list[Path]:
    """Return the paths of the dashboards (JSON)."""
    return sorted(DASHBOARDS.glob("*.json"))


def queries(dashboard: dict[str, Any]) -> dict[str, str]:
    """Return the queries of a dashboard, by panel and letter."""
    return {
        f"{panel['title']} {target['refId']}": target["expr"]
        for panel in dashboard["panels"]
        for target in panel["targets"]
    }


def picture(source: Path) -> Path:
    """Return the path of a dashboard's picture in the documents."""
    return DOCS / "images" / f"{source.stem}.png"


def stale() -> list[Path]:
    """Return the dashboards whose picture is missing or of another version of the dashboard."""
    return [source for source in sources() if is_stale(picture(source), source)]


def load(source: Path, chosen: Mapping[str, str] = MappingProxyType({})) -> dict[str, Any]:
    """Return a dashboard with its queries as Grafana would send them: a variable that takes one value has that of
    `chosen` if present, and any other variable matches all values."""
    text = source.read_text().replace("$__rate_interval", RATE_INTERVAL)
    for variable in json.loads(text)["templating"]["list"][1:]:
        one = None if variable["multi"] else chosen.get(variable["name"])
        text = text.replace(f"${variable['name']}", one or ".*")
    found: dict[str, Any] = json.loads(text)
    return found


def draw(source: Path, target: Path, chosen: Mapping[str, str], ask: Callable[[str], list[Series]]) -> None:
    """Draw a dashboard to `target` (PNG) for the values `chosen` of its variables; `ask` returns a query's result.

    Raises KeyError if a legend names a label that the query's series do not have, and ValueError if two lines of a
    panel have the same name.
    """
    dashboard = load(source, chosen)
    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in dashboard["panels"])
    with mpl.rc_context({"font.size": 7, "axes.titlesize": 9, "axes.titleweight": "bold"}):
        figure = Figure(figsize=(24 * _COLUMN, rows * _ROW + 0.4), layout="constrained", facecolor="#f4f5f5")
        figure.suptitle(dashboard["title"], x=0.01, ha="left", fontsize=13, fontweight="bold")
        grid = figure.add_gridspec(rows, 24)
        for panel in dashboard["panels"]:
            at = panel["gridPos"]
            _panel(figure.add_subplot(grid[at["y"] : at["y"] + at["h"], at["x"] : at["x"] + at["w"]]), panel, ask)
        figure.savefig(target, dpi=110, metadata={"Description": mark(source)})


def _panel(axes: Axes, panel: dict[str, Any], ask: Callable[[str], list[Series]]) -> None:
    for query in panel["targets"]:
        for series in ask(query["expr"]):
            axes.plot(series.minutes, series.values, label=_legend(query["legendFormat"], series.labels), linewidth=1.1)
    _, names = axes.get_legend_handles_labels()
    if len(set(names)) < len(names):
        raise ValueError(f"{panel['title']}: these lines cannot be distinguished: {names}")
    axes.set_title(panel["title"], loc="left")
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(_UNITS[panel["fieldConfig"]["defaults"]["unit"]]())
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g} min"))
    axes.grid(color="#e4e5e6")
    axes.spines[["top", "right"]].set_visible(False)
    columns = 1 if max(map(len, names), default=0) > LONG else 2
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=columns, frameon=False, fontsize=6)


def _legend(form: str, labels: dict[str, str]) -> str:
    return re.sub(r"{{(\w+)}}", lambda found: labels[found[1]], form)
