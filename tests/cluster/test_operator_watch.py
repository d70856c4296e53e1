"""Watches survive failures of connections, servers and credentials, and never stall silently."""

import base64
import os
import ssl
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from support.eventually import eventually
from support.operator import Namespace, agent, documented_rules, install_definition, operator, service_account
from support.operator.line import line_to
from support.operator.second import second_server
from testbed import definitions
from testbed.cluster import Cluster, OwnCluster

pytestmark = pytest.mark.timing

# A watch that receives nothing for this long is dead; after six times that, the operator is unhealthy.
SILENCE = ["--watch-silence-seconds=3"]
# A connection attempt may take 10 s, and starts up to 5 s after the last.
SECONDS = 60.0
AWAY_SECONDS = 30.0
FLOOD_WRITES = 1000


@pytest.fixture
def here(control_plane: Cluster, namespace: str) -> Namespace:
    """A namespace of a cluster with our definition."""
    install_definition(control_plane)
    return Namespace(control_plane, namespace)


@pytest.fixture
def own_cluster() -> Iterator[OwnCluster]:
    """A separate cluster, even when the other tests run on a given one: its etcd will be compacted."""
    cluster = OwnCluster(f"compacted-{os.getpid()}")
    cluster.start("control-plane", lifeline=True)
    try:
        install_definition(cluster)
        yield cluster
    finally:
        cluster.stop()


def test_no_change_is_lost_when_the_api_server_was_down_and_its_history_compacted(
    own_cluster: OwnCluster, tmp_path: Path
) -> None:
    with (
        own_cluster.fresh_namespace() as name,
        second_server(own_cluster, tmp_path) as server,
        operator(server.kubeconfig, name) as process,
    ):
        here = Namespace(own_cluster, name)
        here.apply(agent())
        here.apply(agent("leaves"))
        eventually(lambda: here.find("deployment") and here.find("deployment", "leaves"), "both agents are made")

        server.kill()
        back = time.monotonic() + AWAY_SECONDS
        here.kubectl("delete", "service", "hello")
        here.kubectl("delete", "agentdeployment", "leaves")
        here.apply(agent("comes"))
        server.forget_history()
        while time.monotonic() < back:
            assert process.answer("/healthz")[0] == 200
            time.sleep(0.5)
        server.start()

        eventually(lambda: here.find("service"), "the deleted Service is back", SECONDS)
        eventually(lambda: here.find("deployment", "comes"), "the new agent is applied", SECONDS)
        eventually(lambda: here.find("deployment", "leaves") is None, "the deleted agent leaves nothing", SECONDS)
        assert process.metric('agent_operator_watch_restarts_total{kind="Service"}') >= 1
        assert "A watch had to list again" in process.log


def test_a_connection_that_dies_silently_is_detected_and_abandoned(here: Namespace, tmp_path: Path) -> None:
    with (
        line_to(here.cluster.kubeconfig, tmp_path) as (line, kubeconfig),
        operator(kubeconfig, here.name, more=SILENCE) as process,
    ):
        here.apply(agent())
        here.get("deployment")
        assert process.answer("/healthz")[0] == 200

        line.freeze()
        here.kubectl("delete", "service", "hello")
        here.apply(agent("comes"))
        eventually(lambda: process.answer("/healthz")[0] == 503, "it is unhealthy", SECONDS)
        assert "made no progress" in process.answer("/healthz")[1]
        line.mend()

        eventually(lambda: here.find("service"), "the deleted Service is back", SECONDS)
        eventually(lambda: here.find("deployment", "comes"), "the new agent is applied", SECONDS)
        eventually(lambda: process.answer("/healthz")[0] == 200, "it is healthy again", SECONDS)


def test_quiet_watches_are_renewed_and_healthy(here: Namespace) -> None:
    with operator(here.cluster.kubeconfig, here.name, more=["--watch-silence-seconds=1"]) as process:
        series = 'agent_operator_watch_restarts_total{kind="Deployment"}'
        eventually(lambda: process.metric(series) >= 3, "nothing changes, and the watch restarts")
        assert process.answer("/healthz")[0] == 200
        here.apply(agent())
        here.get("deployment")


def test_kinds_that_come_and_go_are_watched_while_they_are_served(own_cluster: OwnCluster) -> None:
    with (
        own_cluster.fresh_namespace() as name,
        operator(own_cluster.kubeconfig, name, resync_seconds=1) as process,
    ):
        here = Namespace(own_cluster, name)
        here.apply(agent(monitoring={"serviceMonitor": {"enabled": True}}))
        here.await_condition("Degraded", "True", "KindNotInstalled")

        definitions.install(own_cluster, "ServiceMonitor", "HTTPRoute")
        here.get("servicemonitor")
        here.kubectl("delete", "servicemonitor", "hello")
        eventually(lambda: here.find("servicemonitor"), "the deleted ServiceMonitor is back")
        watched = 'agent_operator_watch_restarts_total{kind="HTTPRoute"}'
        eventually(lambda: watched in process.answer("/metrics")[1], "HTTPRoutes are watched, too")

        own_cluster.kubectl(
            "delete", "crd", definitions.definition("ServiceMonitor")["metadata"]["name"], "--timeout=60s"
        )
        here.await_condition("Degraded", "True", "KindNotInstalled")
        here.kubectl("delete", "service", "hello")
        here.get("service")
        assert process.answer("/healthz")[0] == 200


def test_a_flood_of_events_of_other_objects_does_not_reach_the_operator(here: Namespace) -> None:
    with operator(here.cluster.kubeconfig, here.name) as process, _flood(here) as flood:
        eventually(lambda: flood.writes > FLOOD_WRITES, "others write")
        here.apply(agent())
        here.get("deployment")
        here.kubectl("delete", "service", "hello")
        here.get("service")
        eventually(lambda: flood.writes > 2 * FLOOD_WRITES, "others write on")

        reconciled = process.metric('agent_operator_reconciles_total{result="success"}')
        print(f"{flood.writes} events of others, {flood.rate:.0f} a second")  # noqa: T201  a measurement

    assert reconciled < FLOOD_WRITES / 10


def test_a_token_that_expires_early_is_replaced_by_the_one_in_the_file(here: Namespace) -> None:
    here.kubectl("create", "secret", "generic", "binds")
    with service_account(here.cluster, here.name, cluster_wide=False, rules=documented_rules()) as kubeconfig:
        bound = ["--bound-object-kind=Secret", "--bound-object-name=binds"]
        _set_token(kubeconfig, here.kubectl("create", "token", "agent-operator", *bound))
        with operator(kubeconfig, here.name, more=SILENCE) as process:
            here.apply(agent())
            here.get("deployment")

            here.kubectl("delete", "secret", "binds")  # which invalidates the token (KEP-1205)
            # The API server may accept it for another 10 s; then the next watch is refused.
            eventually(lambda: "Credentials were refused" in process.log, "the old token is refused", SECONDS)
            here.kubectl("delete", "service", "hello")
            _set_token(kubeconfig, here.kubectl("create", "token", "agent-operator"))

            eventually(lambda: here.find("service"), "the deleted Service is back", SECONDS)
            here.kubectl("delete", "configmap", "hello")
            here.apply(agent("comes"))
            eventually(lambda: here.find("configmap"), "the deleted ConfigMap is back", SECONDS)
            eventually(lambda: here.find("deployment", "comes"), "the new agent is applied", SECONDS)
            assert process.stop() == 0
            assert "Traceback" not in process.log


class _Flood:
    """Writes ConfigMaps that do not concern the operator, as fast as the API server accepts them."""

    def __init__(self, here: Namespace) -> None:
        config = yaml.safe_load(here.cluster.kubeconfig.read_text())
        self._url = f"{config['clusters'][0]['cluster']['server']}/api/v1/namespaces/{here.name}/configmaps"
        self._client = httpx.Client(verify=_admin(config))
        self._began = time.monotonic()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._write, args=(f"noise-{each}",)) for each in range(4)]
        self.writes = 0

    @property
    def rate(self) -> float:
        """Return the writes per second so far."""
        return self.writes / (time.monotonic() - self._began)

    def start(self) -> None:
        for each in self._threads:
            each.start()

    def stop(self) -> None:
        self._stop.set()
        for each in self._threads:
            each.join()
        self._client.close()

    def _write(self, name: str) -> None:
        labels = {"app.kubernetes.io/name": "portside-agent", "app.kubernetes.io/instance": "hello"}
        self._client.post(self._url, json={"metadata": {"name": name, "labels": labels}}).raise_for_status()
        headers = {"Content-Type": "application/merge-patch+json"}
        while not self._stop.is_set():
            patch = {"data": {"n": str(self.writes)}}
            self._client.patch(f"{self._url}/{name}", json=patch, headers=headers).raise_for_status()
            self.writes += 1


@contextmanager
def _flood(here: Namespace) -> Iterator[_Flood]:
    flood = _Flood(here)
    flood.start()
    try:
        yield flood
    finally:
        flood.stop()


def _admin(config: dict[str, Any]) -> ssl.SSLContext:
    """Return a TLS context with the administrator's certificate of a kubeconfig that contains it."""
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    context = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
    with tempfile.NamedTemporaryFile() as file:
        file.write(base64.b64decode(user["client-certificate-data"]) + base64.b64decode(user["client-key-data"]))
        file.flush()
        context.load_cert_chain(file.name)
    return context


def _set_token(kubeconfig: Path, token: str) -> None:
    config = yaml.safe_load(kubeconfig.read_text())
    config["users"][0]["user"]["token"] = token.strip()
    kubeconfig.write_text(yaml.safe_dump(config))
