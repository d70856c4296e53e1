"""Reads the metrics of one pod, which runs the user's code and may answer anything."""

from http import HTTPStatus

import aiohttp

from agent_operator.manifests.names import METRICS_PATH, METRICS_PORT

# Many times the size of a pod's report. The pod runs the user's code, which may send anything, even without end.
MOST_BYTES = 512 << 10
# No compression: a small response could expand to a large one.
HEADERS = {"Accept": "text/plain", "Accept-Encoding": "identity"}


async def scrape(session: aiohttp.ClientSession, address: str) -> str | None:
    """Return the metrics of the pod at this address; None unless it answers as expected."""
    host = f"[{address}]" if ":" in address else address
    try:
        # A pod must not redirect the operator to another address.
        address = f"http://{host}:{METRICS_PORT}{METRICS_PATH}"
        async with session.get(address, allow_redirects=False) as answer:
            return (await _beginning(answer)).decode(errors="replace") if answer.status == HTTPStatus.OK else None
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
        return None


async def _beginning(answer: aiohttp.ClientResponse) -> bytes:
    read = bytearray()
    async for chunk in answer.content.iter_any():
        read += chunk
        if len(read) > MOST_BYTES:
            break
    return bytes(read)
