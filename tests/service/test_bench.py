"""The bench: everything that it measures starts and answers."""

from pathlib import Path

import httpx

from bench import targets
from support.redis_server import running_redis


def test_every_target_of_the_bench_starts_and_answers(tmp_path: Path) -> None:
    with (
        running_redis(tmp_path) as redis,
        targets.model(tmp_path) as model,
        targets.passthrough(tmp_path, model.url) as limit,
        targets.ours(tmp_path, model.url, redis.url) as ours,
        targets.bare_gateway(tmp_path, model.url) as bare_gateway,
        targets.gateway(tmp_path, model.url, redis.url) as gateway,
    ):
        for target in (model, limit, ours, bare_gateway, gateway):
            asked = target.url + target.chat_path
            headers = {"Content-Type": "application/json", **target.headers}
            answer = httpx.post(asked, content=target.chat_body("Hello."), headers=headers)
            assert answer.status_code == 200, f"{target.name}: {answer.text}"
