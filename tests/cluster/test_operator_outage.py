"""The operator while the API server is unreachable, and afterwards."""

from pathlib import Path

import httpx

from support.eventually import eventually
from support.operator import Namespace, agent, install_definition, operator
from support.operator.line import line_to
from testbed.cluster import Cluster

# kopf retries after up to 21 s.
SECONDS = 60


def test_changes_made_during_an_outage_are_reconciled_afterwards(
    control_plane: Cluster, namespace: str, tmp_path: Path
) -> None:
    install_definition(control_plane)
    here = Namespace(control_plane, namespace)
    with line_to(control_plane.kubeconfig, tmp_path) as (line, kubeconfig), operator(kubeconfig, namespace) as process:
        here.apply(agent())
        here.apply(agent("leaves"))
        eventually(lambda: here.find("deployment") and here.find("deployment", "leaves"), "both agents are made")

        line.cut()
        here.kubectl("delete", "service", "hello")
        here.kubectl("delete", "agentdeployment", "leaves")
        here.apply(agent("comes"))
        assert httpx.get(f"http://127.0.0.1:{process.health_port}/healthz").status_code == 200
        line.mend()

        eventually(lambda: here.find("service"), "the deleted Service is back", SECONDS)
        eventually(lambda: here.find("deployment", "comes"), "the new agent is applied", SECONDS)
        eventually(lambda: here.find("deployment", "leaves") is None, "the deleted agent leaves nothing", SECONDS)
        assert process.stop() == 0
