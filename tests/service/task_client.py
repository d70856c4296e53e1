"""Client helpers for tests of background tasks whose app runs in the same process."""

import hashlib

import httpx

from support.agent import MakeClient

CLIENT_KEY = "a-client-key-of-some-length"
# The form in which a client key appears in Redis.
OWNER = hashlib.sha256(CLIENT_KEY.encode()).hexdigest()[:16]


async def keyed(make_client: MakeClient, **settings: object) -> httpx.AsyncClient:
    """Return a client with a key: tasks are listed only for clients that have one."""
    client = await make_client(api_keys=CLIENT_KEY, **settings)
    client.headers["X-API-Key"] = CLIENT_KEY
    return client


async def submit(client: httpx.AsyncClient, message: str, **headers: str) -> str:
    answer = await client.post("/tasks", json={"message": message}, headers=headers)
    assert answer.status_code == 202, answer.text
    body = answer.json()
    assert answer.headers["Location"] == body["status_url"] == f"/tasks/{body['task_id']}"
    return str(body["task_id"])
