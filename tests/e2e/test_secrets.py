"""Keys are rotated while requests run: the new one is used within the kubelet's sync time, no pod restarts, and no
request fails."""

import base64

import httpx
import pytest

from e2e.agents import AGENT, apply_agent, client, lives, put_secret, secret_spec
from e2e.traffic import steady_traffic
from support.eventually import eventually
from testbed.cluster import Cluster

pytestmark = [pytest.mark.usefixtures("operator"), pytest.mark.timing]

# kubelet: syncFrequency (a minute by default) with its jitter of half of that, plus the latency of the Secret's watch.
SYNC_SECONDS = 100


def test_a_rotated_api_key_is_used_without_a_restart_or_a_lost_request(
    real_cluster: Cluster, namespace: str, model_api: str
) -> None:
    put_secret(real_cluster, namespace, "key-old1")
    apply_agent(real_cluster, namespace, secret_spec(model_api))
    before = lives(real_cluster, namespace)

    with (
        client(real_cluster, "model-api", "svc/model-api") as model,
        steady_traffic(real_cluster, f"http://{AGENT}.{namespace}") as traffic,
    ):
        model.delete("/stand-in/requests")
        eventually(lambda: "old1" in _keys(model), "the first key is used", SYNC_SECONDS)
        put_secret(real_cluster, namespace, "key-new2")
        eventually(lambda: "new2" in _keys(model), "the new key is used", SYNC_SECONDS)
        # Only the new key is used from now on: the old one could be revoked.
        model.delete("/stand-in/requests")
        eventually(lambda: len(_keys(model)) >= 20, "further requests came", SYNC_SECONDS)
        assert set(_keys(model)[1:]) == {"new2"}  # the first may have been in flight

    assert len(traffic.answers) >= 20
    assert traffic.failed == []
    assert lives(real_cluster, namespace) == before
    assert set(before.values()) == {0}


def test_client_keys_are_rotated_with_an_overlap_in_which_old_and_new_are_valid(
    real_cluster: Cluster, namespace: str, model_api: str
) -> None:
    put_secret(real_cluster, namespace, "key-of-the-tests")
    apply_agent(real_cluster, namespace, secret_spec(model_api, auth={"enabled": True}))
    before = lives(real_cluster, namespace)
    [first] = _client_keys(real_cluster, namespace)

    with client(real_cluster, namespace) as http:
        assert _status(http, "") == 401
        assert _status(http, first) == 200

        with steady_traffic(real_cluster, f"http://{AGENT}.{namespace}", first) as traffic:
            _rotate(real_cluster, namespace, "one")
            eventually(lambda: len(_client_keys(real_cluster, namespace)) == 2, "a second key is made", SYNC_SECONDS)
            second, kept = _client_keys(real_cluster, namespace)
            assert kept == first
            eventually(lambda: _status(http, second) == 200, "the second key is good", SYNC_SECONDS)
            assert _status(http, first) == 200
        assert traffic.answers
        assert traffic.failed == []

        with steady_traffic(real_cluster, f"http://{AGENT}.{namespace}", second) as traffic:
            _rotate(real_cluster, namespace, "two")
            eventually(lambda: _status(http, first) == 401, "the first key is refused", SYNC_SECONDS)
            third, kept = _client_keys(real_cluster, namespace)
            assert kept == second
            assert _status(http, third) == 200
        assert traffic.answers
        assert traffic.failed == []

    assert lives(real_cluster, namespace) == before
    shown = real_cluster.kubectl("get", "agentdeployment,events,configmap,deployment", "-n", namespace, "-oyaml")
    assert not [key for key in (first, second, third) if key in shown]


def _keys(model: httpx.Client) -> list[str]:
    """Return the last four characters of each key that the model API received in a steady request."""
    seen = model.get("/stand-in/requests").json()
    return [each["key"] for each in seen if each["message"].startswith("steady")]


def _client_keys(cluster: Cluster, namespace: str) -> list[str]:
    """Return the generated client keys, newest first."""
    secret = cluster.get("secret", f"{AGENT}-client-keys", "-n", namespace)
    return base64.b64decode(secret["data"]["API_KEYS"]).decode().split(",")


def _rotate(cluster: Cluster, namespace: str, request: str) -> None:
    annotation = f"portside.dev/rotate-client-keys={request}"
    cluster.kubectl("annotate", "--overwrite", "agentdeployment", AGENT, "-n", namespace, annotation)


def _status(http: httpx.Client, key: str) -> int:
    headers = {"X-API-Key": key} if key else {}
    return http.post("/chat", json={"message": "Let me in."}, headers=headers).status_code
