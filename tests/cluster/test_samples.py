"""Published manifests at a real API server: every rendering passes strict validation, and the samples work."""

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from lint import rendered
from support.eventually import eventually
from support.manifests import documents
from support.operator import Namespace, OperatorProcess, agent, install_definition, operator
from testbed import binaries, definitions
from testbed import cluster as clusters
from testbed.certificates import Authority
from testbed.cluster import Cluster
from testbed.errors import TestbedError

RENDERINGS = {each.name: each for each in rendered.everything()}
SAMPLES = sorted(rendered.SAMPLES.glob("*.yaml"))
# The commands in a sample's comment that create what it needs; a backslash continues a command.
NEEDS = re.compile(r"^#   (kubectl create secret (?:.*\\\n#\s+)*.*)$", re.MULTILINE)
SECONDS = 90.0


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A control plane for this file alone, with the definitions of every kind that we write objects of."""
    with clusters.provided("control-plane", None, name="samples") as cluster:
        install_definition(cluster)
        definitions.install(cluster, *definitions.FOREIGN)
        yield cluster


@pytest.fixture(scope="module")
def dry(cluster: Cluster) -> Iterator[Namespace]:
    """A namespace that warns of what the restricted Pod Security Standard forbids; nothing is ever created in it."""
    with cluster.fresh_namespace() as name:
        cluster.kubectl("label", "namespace", name, "pod-security.kubernetes.io/warn=restricted")
        yield Namespace(cluster, name)


@pytest.fixture
def here(cluster: Cluster) -> Iterator[Namespace]:
    """A namespace for one test."""
    with cluster.fresh_namespace() as name:
        yield Namespace(cluster, name)


@pytest.fixture
def running(here: Namespace) -> Iterator[OperatorProcess]:
    """The operator, on that namespace."""
    with operator(here.cluster.kubeconfig, here.name, resync_seconds=1) as process:
        yield process


@pytest.mark.parametrize("name", RENDERINGS)
def test_the_api_server_accepts_it_strictly_and_without_a_warning(dry: Namespace, name: str) -> None:
    objects = _into(dry.name, RENDERINGS[name].text)
    said = _dry_run(dry, objects)
    assert said.count("(server dry run)") == len(objects)


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (("spec", "replicaz"), 2, "spec.replicaz: field not declared in schema"),
        (("spec", "replicas"), "two", "replicas"),
        (("spec", "template", "spec", "hostNetwork"), True, "would violate PodSecurity"),
    ],
    ids=["unknown field", "wrong type", "not restricted"],
)
def test_the_strict_dry_run_rejects_invalid_objects(
    dry: Namespace, place: tuple[str, ...], value: object, said: str
) -> None:
    objects = _into(dry.name, RENDERINGS["objects-echo-agent"].text)
    [deployment] = [each for each in objects if each["kind"] == "Deployment"]
    for step in place[:-1]:
        deployment = deployment[step]
    deployment[place[-1]] = value
    with pytest.raises(TestbedError, match=said):
        _dry_run(dry, objects)


@pytest.fixture(scope="module")
def alive(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[Path, Namespace]]:
    """Every sample, applied as its comments describe in a namespace of its own, with one operator for all of them."""
    with ExitStack() as stack:
        places = {each: Namespace(cluster, stack.enter_context(cluster.fresh_namespace())) for each in SAMPLES}
        stack.enter_context(operator(cluster.kubeconfig, *(each.name for each in places.values())))
        for sample, here in places.items():
            _make_what_it_needs(here, tmp_path_factory.mktemp(sample.stem), sample)
            here.kubectl("apply", "--server-side", "-f", str(sample))
        yield places


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda file: file.stem)
def test_a_sample_becomes_ready_as_its_comments_describe(alive: dict[Path, Namespace], sample: Path) -> None:
    here = alive[sample]
    objects = [*documents(sample.read_text()), *documents(rendered.render(sample))]
    for each in objects:
        here.get(f"{each['kind']}.{each['apiVersion'].rpartition('/')[0]}".rstrip("."), each["metadata"]["name"])
    for name in _agents(sample):
        eventually(partial(_is_ready, here, name), f"{name} is ready", SECONDS)


def test_the_samples_document_exactly_what_they_need() -> None:
    for sample in SAMPLES:
        made = {command.split()[4] for command in NEEDS.findall(sample.read_text())}
        assert made == _secrets(sample), sample.name


def test_objects_with_the_defaults_of_the_real_definitions_are_left_alone(
    here: Namespace, running: OperatorProcess
) -> None:
    route = {"enabled": True, "parentRefs": [{"name": "gateway"}], "hostnames": ["agent.example.com"]}
    here.apply(agent(httpRoute=route, monitoring={"serviceMonitor": {"enabled": True}}))
    before = [here.get(kind)["metadata"]["resourceVersion"] for kind in ("httproute", "servicemonitor")]
    assert here.get("httproute")["spec"]["rules"][0]["backendRefs"][0]["weight"] == 1, "the definition has defaults"

    passes = 'agent_operator_reconciles_total{result="success"}'
    passed = running.metric(passes)
    eventually(lambda: running.metric(passes) >= passed + 3, "the operator passed three times")
    assert [here.get(kind)["metadata"]["resourceVersion"] for kind in ("httproute", "servicemonitor")] == before


def _dry_run(dry: Namespace, objects: list[dict[str, Any]]) -> str:
    apply = ["apply", "--server-side", "--dry-run=server", "--validate=strict", "--warnings-as-errors"]
    return dry.kubectl(*apply, "--force-conflicts", "-f", "-", stdin=yaml.safe_dump_all(objects))


def _into(namespace: str, text: str) -> list[dict[str, Any]]:
    """Return the objects, with any namespace that they name replaced by the test's."""
    objects = documents(text)
    for each in objects:
        if "namespace" in each["metadata"]:
            each["metadata"]["namespace"] = namespace
    return objects


def _make_what_it_needs(here: Namespace, folder: Path, sample: Path) -> None:
    """Run the sample's own commands, in the namespace and with the files and variables that they refer to."""
    pair = Authority(folder / "pki").issue("agent.example.com", [], ["agent.example.com"])
    (folder / "agent.crt").write_bytes(pair.certificate.read_bytes())
    (folder / "agent.key").write_bytes(pair.key.read_bytes())
    config = yaml.safe_load(here.cluster.kubeconfig.read_text())
    for each in config["contexts"]:
        each["context"]["namespace"] = here.name
    (folder / "kubeconfig").write_text(yaml.safe_dump(config))
    environment = os.environ | {
        "PATH": f"{binaries.search_path('kubectl')}:{os.environ['PATH']}",
        "KUBECONFIG": str(folder / "kubeconfig"),
        "ANTHROPIC_API_KEY": "sk-test-key",
        "REDIS_URL": "redis://redis.example.com:6379/0",
        "REGISTRY_PASSWORD": "secret",
        "TIDES_TOKEN": "secret",
    }
    for command in NEEDS.findall(sample.read_text()):
        script = command.replace("\n#", "\n")
        done = subprocess.run(
            ["bash", "-euc", script], env=environment, cwd=folder, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{script}\n{done.stderr}"


def _agents(sample: Path) -> list[str]:
    return [each["metadata"]["name"] for each in documents(sample.read_text()) if each["kind"] == "AgentDeployment"]


def _is_ready(here: Namespace, name: str) -> bool:
    """Return whether the agent is Ready, after setting new pods to running. (This tier has no nodes.)"""
    here.serve(name)
    return here.condition("Ready", name).get("status") == "True"


def _secrets(sample: Path) -> set[str]:
    """Return the names of the Secrets that the sample's agents refer to."""
    found: set[str] = set()
    for document in documents(sample.read_text()):
        if document["kind"] == "AgentDeployment":
            spec = document["spec"]
            found |= {spec.get(part, {}).get("secretName") for part in ("apiKey", "redis")}
            found |= {spec.get("auth", {}).get("existingSecret"), spec.get("ingress", {}).get("tlsSecretName")}
            found |= {each["name"] for each in spec.get("imagePullSecrets", [])}
            headers = [each for tool in spec.get("tools", []) for each in tool.get("mcp", {}).get("headersFrom", [])]
            found |= {each["secretKeyRef"]["name"] for each in headers}
    return found - {None}
