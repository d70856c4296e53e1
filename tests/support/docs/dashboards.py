"""Pictures of the dashboards: their own panels, queries and legends, drawn from a Prometheus with matplotlib.

Grafana's look is not copied, but what its panels would show is there: the same lines, so named, in the same places.
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
# As Grafana fills in its own, for a Prometheus that reads its targets once a second.
RATE_INTERVAL = "20s"
# Names that are longer stand below each other, as two of them would be wider than the panel.
LONG = 30
# Columns and rows of Grafana's grid, in inches.
_COLUMN, _ROW = 0.6, 0.36
# Which values a panel's unit (of Grafana) stands for at its axis.
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
    """What a query found: labels, and values at times (in minutes; -1 is a minute ago)."""

    labels: dict[str, str]
    minutes: list[float]
    values: list[float]


def sources() -> list[Path]:
    """The dashboards, as JSON."""
    return sorted(DASHBOARDS.glob("*.json"))


def queries(dashboard: dict[str, Any]) -> dict[str, str]:
    """Return the queries of a dashboard, by panel and letter."""
    return {
        f"{panel['title']} {target['refId']}": target["expr"]
        for panel in dashboard["panels"]
        for target in panel["targets"]
    }


def picture(source: Path) -> Path:
    """Where the documents have the picture of a dashboard."""
    return DOCS / "images" / f"{source.stem}.png"


def stale() -> list[Path]:
    """The dashboards whose picture is missing or of another state of them."""
    return [source for source in sources() if is_stale(picture(source), source)]


def load(source: Path, chosen: Mapping[str, str] = MappingProxyType({})) -> dict[str, Any]:
    """A dashboard, with queries as Grafana would ask them: where one value of a variable has to be chosen, with that
    of `chosen` if it is there, and elsewhere with all."""
    text = source.read_text().replace("$__rate_interval", RATE_INTERVAL)
    for variable in json.loads(text)["templating"]["list"][1:]:
        one = None if variable["multi"] else chosen.get(variable["name"])
        text = text.replace(f"${variable['name']}", one or ".*")
    found: dict[str, Any] = json.loads(text)
    return found


def draw(source: Path, target: Path, chosen: Mapping[str, str], ask: Callable[[str], list[Series]]) -> None:
    """Draw a dashboard to `target` (PNG): of what is `chosen`, where one has to be; `ask` gives what a query finds.

    Raises KeyError when a legend names a label that the query's series do not have, and ValueError when two lines of a
    panel get one name.
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
        raise ValueError(f"{panel['title']}: these lines cannot be told apart: {names}")
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
