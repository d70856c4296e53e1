"""Prometheus accepts the queries of the dashboards."""

import json
from pathlib import Path

from support.docs import dashboards
from support.promtool import promtool


def test_prometheus_accepts_every_query_of_the_dashboards(tmp_path: Path) -> None:
    queries = [
        query for source in dashboards.sources() for query in dashboards.queries(dashboards.load(source)).values()
    ]
    assert not [query for query in queries if "$" in query], "every variable of a query is known"
    rules = [{"record": f"panel:{number}", "expr": query} for number, query in enumerate(queries)]
    file = tmp_path / "queries.yaml"
    file.write_text(json.dumps({"groups": [{"name": "dashboards", "rules": rules}]}))
    code, output = promtool("check", "rules", "--lint=none", str(file))
    assert code == 0, output
