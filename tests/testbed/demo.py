"""`make demo`: the main job from end to end, on a real cluster, each step said and timed."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import httpx

from testbed import images, paths, system
from testbed.cluster import Cluster, KindCluster, OwnCluster, named_by
from testbed.console import say, step
from testbed.errors import TestbedError
from testbed.portforward import forwarded
from testbed.report import describe

Where = Literal["auto", "own", "kind", "current"]
NAME = "demo"
OPERATOR_NAMESPACE = "portside-system"
NAMESPACE = "portside-demo"
SAMPLE = paths.REPOSITORY / "manifests" / "samples" / "echo-agent.yaml"
AGENT = "hello-agent"
READY_SECONDS = 180
ANSWER_SECONDS = 30
METRICS_PORT = 9090


def run(where: Where, name: str, kubeconfig: Path | None, *, keep: bool) -> None:
    """Show an agent from its resource to its answer on the cluster `where`; with `keep` leave all of it running.

    A cluster of our own is called `name`.

    Raises TestbedError at the first step that fails, after showing what the cluster looked like; then nothing is kept.
    """
    begun = time.monotonic()
    with _cluster(where, name, kubeconfig, keep=keep) as cluster, _cleaned(cluster, keep=keep):
        for image in images.build_all():
            with step(f"Loading {image.reference} into the cluster"):
                cluster.load_image(image.archive)
        _install(cluster)
        _apply_sample(cluster)
        _talk(cluster)
        _show(cluster)
        if keep:
            _say_how_to_reach(cluster)
    say(f"\nThe demo took {time.monotonic() - begun:.0f} s in all.")


@contextmanager
def _cluster(where: Where, name: str, kubeconfig: Path | None, *, keep: bool) -> Iterator[Cluster]:
    """Give the cluster to show the demo on, started if need be, and stop it afterwards if it was, unless it is kept."""
    if where == "current":
        if kubeconfig is None:
            raise TestbedError("CLUSTER=current uses the cluster of KUBECONFIG, which is not set.")
        yield named_by(kubeconfig)
        return
    cluster: OwnCluster | KindCluster
    if where == "kind" or (where == "auto" and system.docker_works()):
        cluster = KindCluster(paths.cache() / "kind.kubeconfig", "portside-demo")
        cluster.start()
    else:
        cluster = OwnCluster(name)
        if cluster.running:
            say(f"Using the cluster {name} that an earlier demo kept.")
        else:
            cluster.start("node", lifeline=not keep)
    try:
        yield cluster
    except BaseException:
        keep = False
        raise
    finally:
        if not keep:
            with step("Removing the cluster"):
                cluster.stop()


@contextmanager
def _cleaned(cluster: Cluster, *, keep: bool) -> Iterator[None]:
    """Remove what the demo put into the cluster, also after a failure, which is shown first."""
    try:
        yield
    except TestbedError:
        say(describe(cluster, OPERATOR_NAMESPACE, NAMESPACE))
        _remove(cluster)
        raise
    except BaseException:
        _remove(cluster)
        raise
    if not keep:
        _remove(cluster)


def _install(cluster: Cluster) -> None:
    with step("Installing the operator with Helm"):
        chart = str(paths.REPOSITORY / "helm" / "agent-operator")
        place = ["--namespace", OPERATOR_NAMESPACE, "--create-namespace"]
        cluster.helm("upgrade", "--install", "agent-operator", chart, *place, "--wait", f"--timeout={READY_SECONDS}s")


def _apply_sample(cluster: Cluster) -> None:
    with step(f"Applying {SAMPLE.relative_to(paths.REPOSITORY)} and waiting until it is Ready"):
        namespace = json.dumps({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
        cluster.kubectl("apply", "-f-", stdin=namespace)
        cluster.kubectl("apply", "-n", NAMESPACE, "-f", str(SAMPLE))
        ready = ["wait", "--for=condition=Ready", f"agentdeployment/{AGENT}", f"--timeout={READY_SECONDS}s"]
        cluster.kubectl(*ready, "-n", NAMESPACE)


def _talk(cluster: Cluster) -> None:
    with forwarded(cluster, NAMESPACE, f"svc/{AGENT}", 80) as url:
        with step(f"POST {url}/chat (through kubectl port-forward)"):
            answer = json.loads("".join(_lines("POST", f"{url}/chat", {"message": "Is anybody in that pod?"})))
            say(f"    {answer['response']!r}, {answer['tokens_used']} tokens, {answer['processing_time_ms']} ms")
        with step(f"POST {url}/chat/stream"):
            for line in _lines("POST", f"{url}/chat/stream", {"message": "And now word by word."}):
                say(f"    {line}")
    pods = forwarded(cluster, NAMESPACE, f"deployment/{AGENT}", METRICS_PORT)
    with pods as url, step(f"GET {url}/metrics (a port of the pods alone)"):
        for line in _lines("GET", f"{url}/metrics"):
            if line.startswith(("agent_http_requests_total", "agent_tokens_total", "agent_build_info")):
                say(f"    {line}")


def _lines(method: str, url: str, body: dict[str, str] | None = None) -> Iterator[str]:
    """Give the lines of the answer that are not empty, each as it arrives."""
    try:
        with httpx.stream(method, url, json=body, timeout=ANSWER_SECONDS) as answer:
            if answer.is_error:
                raise TestbedError(f"{url} answered {answer.status_code}: {answer.read().decode()}")
            yield from (line for line in answer.iter_lines() if line)
    except httpx.HTTPError as error:
        raise TestbedError(f"{url} did not answer: {error}") from error


def _show(cluster: Cluster) -> None:
    for what in ("agentdeployments", "deployments,services,horizontalpodautoscalers,configmaps,pods"):
        say(f"\n$ kubectl get {what} -n {NAMESPACE}")
        say(cluster.kubectl("get", what, "-n", NAMESPACE))


def _say_how_to_reach(cluster: Cluster) -> None:
    say(f"""\
The cluster is left up. To reach it:
    export KUBECONFIG={cluster.kubeconfig}
    kubectl get agentdeployments -A
    kubectl port-forward -n {NAMESPACE} svc/{AGENT} 8000:80
    curl -s localhost:8000/chat -H 'Content-Type: application/json' -d '{{"message": "Hello"}}'
To remove all of it: make demo-down""")


def _remove(cluster: Cluster) -> None:
    with step("Removing the agent, the operator and the resource definition"):
        cluster.kubectl(
            "delete", "-n", NAMESPACE, "-f", str(SAMPLE), "--ignore-not-found", "--timeout=60s", check=False
        )
        # A namespace that still has pods when it is deleted is not looked at again for half their grace period.
        cluster.kubectl("wait", "--for=delete", "pods", "--all", "-n", NAMESPACE, "--timeout=90s", check=False)
        cluster.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--timeout=120s", check=False)
        cluster.helm(
            "uninstall", "agent-operator", "-n", OPERATOR_NAMESPACE, "--ignore-not-found", "--wait", check=False
        )
        cluster.kubectl("delete", "namespace", OPERATOR_NAMESPACE, "--ignore-not-found", "--timeout=120s", check=False)
        cluster.kubectl("delete", "crd", "agentdeployments.portside.dev", "--ignore-not-found", check=False)


def down() -> None:
    """Remove what a demo with `keep` left running."""
    OwnCluster(NAME).stop()
    if system.docker_works():
        KindCluster(paths.cache() / "kind.kubeconfig", "portside-demo").stop()
