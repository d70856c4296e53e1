"""Metric cardinality: odd paths, methods, hosts, models or keys in requests add no series."""

import asyncio
import itertools

import httpx

from support.agent import Service, StartService

ODD = 10_000
RIGHT = "right-key-of-the-tests"
AT_ONCE = 50
METHODS = ("GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "BREW", "X-ODD", "PROPFIND")


def series(service: Service) -> set[str]:
    """Return the names and labels of all series."""
    lines = service.get("/metrics").text.splitlines()
    return {line.rpartition(" ")[0] for line in lines if not line.startswith("#")}


async def flood(url: str) -> None:
    """Send 10,000 odd requests, half of them to endpoints that exist."""
    numbers = iter(range(ODD))

    async def ask(http: httpx.AsyncClient) -> None:
        for number in numbers:
            key = RIGHT if number % 3 else f"key-{number}-that-no-client-has"
            odd = {"X-API-Key": key, "X-Request-ID": f"id-{number}", "Host": f"host-{number}"}
            if number % 2:
                method = METHODS[number // 2 % len(METHODS)] if number % 20 < 15 else f"ODD{number}"
                await http.request(method, f"/no/such/{number}/path?query={number}", headers=odd)
            else:
                body = {"message": "hello", "model": f"model-{number}", "conversation_id": f"conversation-{number}"}
                path = ("/chat", f"/tasks/task-{number}", f"/health/{number}", "/tasks")[number // 2 % 4]
                await http.request("POST" if path in {"/chat", "/tasks"} else "GET", path, json=body, headers=odd)

    async with httpx.AsyncClient(base_url=url, timeout=60) as http:
        await asyncio.gather(*(ask(http) for _ in range(AT_ONCE)))


def test_ten_thousand_odd_requests_add_no_series(start_service: StartService) -> None:
    service = start_service(MODEL_PROVIDER="echo", RATE_LIMIT_REQUESTS="0", API_KEYS=RIGHT, LOG_LEVEL="ERROR")
    # Send each kind once, including a scrape, so that every series that may exist does.
    series(service)
    asked = itertools.product((*METHODS, "ODD"), ("/chat", "/tasks", "/tasks/x", "/health/x", "/no/such"))
    for method, path in asked:
        for key in (RIGHT, "wrong"):
            body = {"message": "hello", "model": "odd"}
            httpx.request(method, f"{service.url}{path}", json=body, headers={"X-API-Key": key}, timeout=30)
    before = series(service)

    asyncio.run(flood(service.url))

    assert sorted(series(service) - before) == []
    text = service.get("/metrics").text
    for odd in ("key-", "model-", "host-", "conversation-", "id-", "/no/such"):
        assert f'="{odd}' not in text, odd
