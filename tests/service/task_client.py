"""What tests of background tasks do as a client of the app in their own process."""

import hashlib

import httpx

from support.agent import MakeClient

CLIENT_KEY = "a-client-key-of-some-length"
# As a key is named in Redis.
OWNER = hashlib.sha256(CLIENT_KEY.encode()).hexdigest()[:16]


async def keyed(make_client: MakeClient, **settings: object) -> httpx.AsyncClient:
    """A client that shows a key: only those have their tasks listed."""
    client = await make_client(api_keys=CLIENT_KEY, **settings)
    client.headers["X-API-Key"] = CLIENT_KEY
    return client


async def submit(client: httpx.AsyncClient, message: str, **headers: str) -> str:
    answer = await client.post("/tasks", json={"message": message}, headers=headers)
    assert answer.status_code == 202, answer.text
    body = answer.json()
    assert answer.headers["Location"] == body["status_url"] == f"/tasks/{body['task_id']}"
    return str(body["task_id"])
