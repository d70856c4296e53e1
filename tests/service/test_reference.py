"""The generated references name every metric and every endpoint of the running app."""

import re

from support.agent import MakeClient
from support.docs.tables import REFERENCE, rows


async def test_every_scraped_metric_is_documented(make_client: MakeClient) -> None:
    client = await make_client()
    await client.post("/chat", json={"message": "Hello"})
    scraped = re.findall(r"^# TYPE (agent_\w+) (\w+)$", (await client.get("/metrics")).text, re.MULTILINE)
    metrics = {name: row for name, row in rows("metrics.md").items() if not name.startswith("agent_operator_")}
    assert {name for name, _ in scraped} == set(metrics)
    for name, kind in scraped:
        # The text format does not have the type `info`.
        assert metrics[name][1] == ("info" if name.endswith("_info") else kind)
        assert metrics[name][3], name
    assert metrics["agent_http_requests_total"][2] == "`method`, `route`, `status`"


async def test_every_endpoint_is_documented(make_client: MakeClient) -> None:
    client = await make_client()
    endpoints = (await client.get("/")).json()["endpoints"]
    page = (REFERENCE / "endpoints.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## ([A-Z]+ /.*)$", page, re.MULTILINE)
    assert headings == endpoints
    anchors = {re.sub(r"[^a-z0-9 _-]", "", title.lower()).replace(" ", "-") for title in re.findall(r"#+ (.*)", page)}
    assert set(re.findall(r"\(#([^)]*)\)", page)) <= anchors
