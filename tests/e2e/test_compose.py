"""compose.yaml on a real Docker engine: an agent, its worker and a Redis, and several replicas behind nginx."""

import json
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from support.docker import Engine, others, provide_others, running_engine
from support.eventually import eventually
from testbed import images, paths
from testbed.errors import TestbedError
from testbed.images import Image

API, PROXY = "http://127.0.0.1:8000", "http://127.0.0.1:8080"
SECONDS = 60
# Prints, for each event of a stream, the seconds since the request.
STREAM = """
import json, sys, time, urllib.request as r
url, message = sys.argv[1:]
asked = time.monotonic()
body, headers = json.dumps({"message": message}).encode(), {"Content-Type": "application/json"}
request = r.Request(url + "/chat/stream", body, headers)
with r.urlopen(request, timeout=60) as answer:
    for line in answer:
        if line.startswith(b"data:"):
            print(round(time.monotonic() - asked, 3), line.decode().strip(), flush=True)
"""


@pytest.fixture(scope="module")
def engine(built_images: list[Image]) -> Iterator[Engine]:
    """A Docker engine with the images named in compose.yaml."""
    with running_engine() as engine:
        for archive in (*(image.archive for image in built_images if "service" in image.reference), provide_others()):
            engine.run("docker", "load", "--input", str(archive))
        yield engine


class Project:
    """compose.yaml, started from its own folder, as by a user who copied only that file and the proxy's."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        self.engine = engine
        self._folder = folder
        self._environment = {
            "IMAGE": images.reference("service"),
            "REDIS_IMAGE": others(),
            "NGINX_IMAGE": others(),
            "RATE_LIMIT_REQUESTS": "0",
            "COMPOSE_PROJECT_NAME": f"test-{uuid.uuid4().hex[:8]}",
        }

    def compose(self, *arguments: str) -> str:
        """Run `docker compose`."""
        return self.engine.run("docker-compose", *arguments, cwd=self._folder, environment=self._environment)

    def ask(self, url: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Send one request: POST with a body, otherwise GET. The answer must be 2xx and JSON."""
        data = ["-d", json.dumps(body), "-H", "Content-Type: application/json"] if body is not None else []
        answer: dict[str, Any] = json.loads(self.engine.inside("curl", "-sS", "--fail-with-body", *data, url + path))
        return answer

    def is_completed(self, place: str) -> bool:
        """Return whether a task is done; False also if the limit of requests refuses the question."""
        found: dict[str, Any] = json.loads(self.engine.inside("curl", "-sS", API + place))
        return found.get("status") == "completed"


@contextmanager
def project(engine: Engine, folder: Path) -> Iterator[Project]:
    """Yield the files in `folder` as a project; whatever was started is removed at the end, with its data."""
    (folder / "manifests" / "compose").mkdir(parents=True)
    for name in ("compose.yaml", "manifests/compose/nginx.conf"):
        shutil.copy(paths.REPOSITORY / name, folder / name)
    (folder / ".secrets").mkdir()
    here = Project(engine, folder)
    try:
        yield here
    finally:
        here.compose("--profile", "scale", "down", "--volumes", "--timeout", "10")


def test_one_command_starts_an_agent_a_worker_and_a_redis(engine: Engine, tmp_path: Path) -> None:
    with project(engine, tmp_path) as here:
        here.compose("up", "--wait")
        first = here.ask(API, "/chat", {"message": "Hello"})
        assert first["response"] == "You said: Hello"
        task = here.ask(API, "/tasks", {"message": "Work"})
        eventually(lambda: here.is_completed(task["status_url"]), "the worker did it", SECONDS)

        here.compose("restart")
        here.compose("up", "--wait")
        again = {"message": "And again", "conversation_id": first["conversation_id"]}
        assert here.ask(API, "/chat", again)["conversation_id"] == first["conversation_id"]
        assert here.ask(API, task["status_url"])["status"] == "completed"
        assert "redis" in here.ask(API, "/health")["components"]

        names = here.compose("ps", "--quiet").split()
        for container in json.loads(engine.run("docker", "inspect", *names)):
            assert container["HostConfig"]["ReadonlyRootfs"]
            assert container["HostConfig"]["CapDrop"] == ["ALL"]
            assert container["HostConfig"]["SecurityOpt"] == ["no-new-privileges:true"]
    assert engine.run("docker", "ps", "--all", "--quiet") == ""
    assert engine.run("docker", "volume", "ls", "--quiet") == ""


def test_a_client_key_in_the_secrets_folder_is_required(engine: Engine, tmp_path: Path) -> None:
    with project(engine, tmp_path) as here:
        (tmp_path / ".secrets" / "API_KEYS").write_text("a-client-key-of-the-tests\n")
        here.compose("up", "--wait")
        with pytest.raises(TestbedError, match="401"):
            here.ask(API, "/chat", {"message": "Hello"})
        assert here.compose("exec", "api", "agent-service", "ask", "Hello").strip() == "You said: Hello"


def test_replicas_behind_nginx_share_the_load_and_stream_without_buffering(engine: Engine, tmp_path: Path) -> None:
    with project(engine, tmp_path) as here:
        here.compose("--profile", "scale", "up", "--wait", "--scale", "replica=2")
        said = here.ask(PROXY, "/chat", {"message": "Hello"})
        again = {"message": "And again", "conversation_id": said["conversation_id"]}
        for _ in range(12):
            assert here.ask(PROXY, "/chat", again)["conversation_id"] == said["conversation_id"]
        logs = here.compose("--profile", "scale", "logs", "--no-color", "api", "replica")
        served = {line.split("|")[0].strip() for line in logs.splitlines() if '"route":"/chat"' in line}
        assert len(served) == 3

        with pytest.raises(TestbedError, match="404"):
            here.ask(PROXY, "/metrics")

        lines = engine.inside("python3", "-c", STREAM, PROXY, "word " * 60).splitlines()
        times = [float(line.split(" ", 1)[0]) for line in lines]
        assert '"type":"done"' in lines[-1]
        assert times[-1] - times[0] > 0.3, "words come one by one, not all at the end"

        here.compose("--profile", "scale", "kill", "--signal", "KILL", "api")
        for _ in range(10):
            assert here.ask(PROXY, "/chat", {"message": "Still there?"})["response"] == "You said: Still there?"
