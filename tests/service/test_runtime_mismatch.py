"""A runtime that never answered a turn in the form of its protocol is down in `/health`, although it is healthy."""

from pathlib import Path
from typing import Any

import httpx

from support.agent import running_service
from support.eventually import eventually
from support.redis_server import RedisServer
from support.runtime import Asked, json_answer, respond, running_runtime

CHECK_SECONDS = 30


def test_a_runtime_that_lacks_the_path_of_its_protocol_is_down_until_a_turn_is_answered(
    redis_process: RedisServer, tmp_path: Path
) -> None:
    with running_runtime(lacks_the_path) as runtime:
        settings = {
            "RUNTIME_URL": runtime.url,
            "REDIS_URL": redis_process.url,
            "RATE_LIMIT_REQUESTS": "0",
            "LOG_LEVEL": "DEBUG",
        }
        with (
            running_service(tmp_path, **settings) as service,
            httpx.Client(base_url=service.url, timeout=30) as http,
        ):
            eventually(lambda: component(http)["status"] == "up", "it is healthy", CHECK_SECONDS)

            assert http.post("/chat", json={"message": "Hello"}).status_code == 502
            eventually(lambda: component(http).get("kind") == "no_endpoint", "the check names it", CHECK_SECONDS)
            assert "another protocol" in component(http)["detail"]

            runtime.answer = hello
            http.post("/chat", json={"message": "Hello"}).raise_for_status()
            eventually(lambda: component(http)["status"] == "up", "it is up again", CHECK_SECONDS)

            # The refusal of one turn is no reason for an alert about a runtime that answers others.
            runtime.answer = lacks_the_path
            assert http.post("/chat", json={"message": "Hello"}).status_code == 502
            eventually(lambda: age_of_check(http) > 3, "the last check is old", CHECK_SECONDS)
            eventually(lambda: age_of_check(http) < 2, "it was checked again", CHECK_SECONDS)
            assert component(http)["status"] == "up"


def hello(_: Asked) -> bytes:
    return json_answer({"response": "Hello"})


def lacks_the_path(_: Asked) -> bytes:
    return respond(b"{}", status="404 Not Found")


def component(http: httpx.Client) -> dict[str, Any]:
    found: dict[str, Any] = http.get("/health").json()["components"]["runtime"]
    return found


def age_of_check(http: httpx.Client) -> float:
    return float(component(http)["checked_seconds_ago"])
