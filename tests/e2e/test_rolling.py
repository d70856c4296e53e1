"""Prompt, image and key are rolled while two hundred streams run: no stream is cut and no request refused."""

import time
from pathlib import Path

import pytest

from e2e.agents import AGENT, apply_agent, client, lives, put_secret, secret_spec
from e2e.streams import Streams, open_streams
from stand_in import asking
from support.eventually import eventually
from testbed import images
from testbed.cluster import Cluster
from testbed.images import Image

pytestmark = [pytest.mark.usefixtures("operator"), pytest.mark.timing]

STREAMS = 200
# Ten seconds each: longer than a new pod takes to become ready, so that each rollout meets streams in progress.
MESSAGE = asking("List them all.", slow=0.5)
ROLL_SECONDS = 180
# See test_secrets.py.
SYNC_SECONDS = 100


def test_a_roll_of_prompt_image_and_key_cuts_no_stream_and_refuses_no_request(
    real_cluster: Cluster, namespace: str, model_api: str, built_images: list[Image], tmp_path: Path
) -> None:
    put_secret(real_cluster, namespace, "key-old1")
    serving = {
        "replicas": 2,
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "1Gi"}},
    }
    apply_agent(real_cluster, namespace, secret_spec(model_api, **serving))

    with open_streams(real_cluster, f"{AGENT}.{namespace}", STREAMS, MESSAGE) as streams:
        eventually(lambda: _running(streams) >= STREAMS, "all streams are open", ROLL_SECONDS)

        prompted = secret_spec(model_api, **serving)
        prompted["agent"]["systemPrompt"] = "Answer as the harbour master."
        before = lives(real_cluster, namespace)
        apply_agent(real_cluster, namespace, prompted)
        assert not before.keys() & lives(real_cluster, namespace).keys(), "all pods are new"
        eventually(lambda: "harbour master" in streams.ended[-1]["text"], "the new prompt is used", ROLL_SECONDS)

        # The same image under another name: to Kubernetes a new revision, with all that a new image entails.
        before = lives(real_cluster, namespace)
        service = next(image for image in built_images if image.reference == images.reference("service"))
        repository = service.reference.rpartition(":")[0]
        rolled = images.renamed(service, f"{repository}:rolled", tmp_path / "rolled.tar")
        real_cluster.load_image(rolled.archive)
        apply_agent(real_cluster, namespace, {**prompted, "image": {"tag": "rolled"}})
        assert not before.keys() & lives(real_cluster, namespace).keys(), "all pods are new"

        before = lives(real_cluster, namespace)
        put_secret(real_cluster, namespace, "key-new2")
        with client(real_cluster, "model-api", "svc/model-api") as model:
            eventually(lambda: "new2" in _keys(model.get("/stand-in/requests").json()), "the new key", SYNC_SECONDS)
        assert lives(real_cluster, namespace) == before, "a key rolls no pod"
        changed = time.time()
        eventually(lambda: _whole_after(streams, changed), "streams end well that began with the new key", ROLL_SECONDS)

    print(f"{len(streams.ended)} streams, {len(streams.broken)} cut or refused")  # noqa: T201
    assert len(streams.ended) > 3 * STREAMS
    assert streams.broken == []


def _running(streams: Streams) -> int:
    """Return the number of slots with a stream, judged by those that have ended: all have one after half a minute."""
    first = streams.ended[0]
    return STREAMS if time.time() - first["began"] > 30 else 0


def _whole_after(streams: Streams, moment: float) -> bool:
    return any(each["began"] > moment and each["done"] for each in streams.ended)


def _keys(requests: list[dict[str, str]]) -> set[str]:
    return {each["key"] for each in requests}
