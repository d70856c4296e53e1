"""Dashboards in Grafana's format (Grafana, dashboard JSON model)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
WIDTH, HEIGHT, ACROSS = 8, 8, 24


@dataclass(frozen=True)
class Panel:
    """A graph: its title, its Grafana unit, and its lines, as pairs of a legend and a query."""

    title: str
    unit: str
    lines: tuple[tuple[str, str], ...]
    help: str = ""


@dataclass(frozen=True)
class Variable:
    """A selector at the top of a dashboard: the values of the label `name` in `metric`.

    `within` is the name of an earlier selector that narrows this one. With `several`, more than one value can be
    selected, and all are selected at first.
    """

    name: str
    metric: str
    within: str | None = None
    several: bool = True


@dataclass(frozen=True)
class Dashboard:
    """A page; `uid` is also the name of its file."""

    uid: str
    title: str
    variables: tuple[Variable, ...]
    panels: tuple[Panel, ...]


def document(dashboard: Dashboard) -> dict[str, Any]:
    """Return the dashboard as JSON-serializable data."""
    return {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "tags": ["portside"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [_DATASOURCES, *map(_variable, dashboard.variables)]},
        "panels": list(_panels(dashboard.panels)),
    }


_DATASOURCES = {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"}


def _variable(variable: Variable) -> dict[str, Any]:
    chosen = f'{{{variable.within}=~"${variable.within}"}}' if variable.within else ""
    several = {"allValue": ".*", "current": {"text": "All", "value": "$__all"}}
    return {
        "name": variable.name,
        "type": "query",
        "datasource": DATASOURCE,
        "query": f"label_values({variable.metric}{chosen}, {variable.name})",
        # Refresh also when an earlier selector or the time range changes.
        "refresh": 2,
        "multi": variable.several,
        "includeAll": variable.several,
        # Without a current value, Grafana selects the first.
        **(several if variable.several else {}),
    }


def _panels(panels: tuple[Panel, ...]) -> Iterator[dict[str, Any]]:
    for index, panel in enumerate(panels):
        place = index * WIDTH
        yield {
            "id": index + 1,
            "type": "timeseries",
            "title": panel.title,
            "description": panel.help,
            "datasource": DATASOURCE,
            "gridPos": {"x": place % ACROSS, "y": place // ACROSS * HEIGHT, "w": WIDTH, "h": HEIGHT},
            "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
            "targets": [
                {"refId": chr(ord("A") + number), "expr": query, "legendFormat": legend, "datasource": DATASOURCE}
                for number, (legend, query) in enumerate(panel.lines)
            ],
        }
