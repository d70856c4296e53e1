"""The bench: everything that it measures starts and answers."""

import asyncio
from pathlib import Path

import httpx

from bench import protocols, targets
from bench.forms import FORMS
from support.redis_server import running_redis


def test_every_target_of_the_bench_starts_and_answers(tmp_path: Path) -> None:
    with (
        running_redis(tmp_path) as redis,
        targets.model(tmp_path) as model,
        targets.passthrough(tmp_path, model.url) as limit,
        targets.ours(tmp_path, model.url, redis.url, protocols=True) as ours,
        targets.bare_gateway(tmp_path, model.url) as bare_gateway,
        targets.gateway(tmp_path, model.url, redis.url) as gateway,
    ):
        for target in (model, limit, bare_gateway, gateway, *map(ours.speaking, FORMS)):
            headers = {"Content-Type": "application/json", **target.headers}
            for path, body in (
                (target.chat_path, target.chat_body("Hello.")),
                (target.stream_path, target.stream_body("Hello.")),
            ):
                answer = httpx.post(target.url + path, content=body, headers=headers, timeout=30)
                assert answer.status_code == 200, f"{target.name}: {answer.text}"
                assert "friend" in answer.text, f"{target.name}: {answer.text}"
        for resumable in (False, True):
            streamed = asyncio.run(protocols.streams(ours, at_once=2, pace=0, seconds=0.1, resumable=resumable))
            assert streamed.cpu_each > 0
