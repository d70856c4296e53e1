"""`make demo`: the main workflow from end to end, on a real cluster. Each step is shown and timed."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import httpx

from testbed import binaries, commands, images, paths, prerequisites, system, tool_agent
from testbed.addons import OPERATOR
from testbed.cluster import NODE_COMMANDS, Cluster, KindCluster, OwnCluster, named_by
from testbed.console import progress, say, step, table_of_times, times
from testbed.errors import TestbedError
from testbed.locks import exclusive
from testbed.portforward import forwarded
from testbed.report import describe
from testbed.together import together

Where = Literal["auto", "own", "kind", "current"]
NAME = "demo"
NAMESPACE = "portside-demo"
SAMPLE = paths.REPOSITORY / "manifests" / "samples" / "echo-agent.yaml"
AGENT = "hello-agent"
READY_SECONDS = 180
ANSWER_SECONDS = 30
METRICS_PORT = 9090
SHOWN_METRICS = ("agent_http_requests_total", "agent_tokens_total", "agent_build_info")


@dataclass
class _Place:
    """The cluster of the demo; whether it is the demo's own, and so removed as a whole; and whether it is up."""

    cluster: Cluster
    ours: bool
    up: bool = False


def run(where: Where, name: str, kubeconfig: Path | None, *, keep: bool) -> None:
    """Show an agent from its resource to its answer on the cluster `where`; with `keep`, leave everything running.

    `name` is the name for a cluster of our own.

    Raises TestbedError at the first step that fails, after printing the state of the cluster; nothing is kept then.
    """
    started = time.monotonic()
    place = _place(where, name, kubeconfig)
    _check(place.cluster)
    with exclusive(paths.cache() / f"demo-{name}.lock", "runs the demo"), _cleaned(place, keep=keep):
        with progress():
            built, _ = together(images.build_all, partial(_start, place, keep=keep))
            for image in built or []:
                _load(place.cluster, image)
            _install(place.cluster)
            _apply_agents(place.cluster)
        _talk(place.cluster)
        _ask_with_tools(place.cluster)
        _show(place.cluster)
        if keep:
            _print_how_to_reach(place.cluster)
    say(f"\nThe demo took:\n{table_of_times(times(), time.monotonic() - started)}")


def _place(where: Where, name: str, kubeconfig: Path | None) -> _Place:
    if where == "current":
        if kubeconfig is None:
            raise TestbedError("CLUSTER=current uses the cluster of KUBECONFIG, which is not set.")
        return _Place(named_by(kubeconfig), ours=False)
    if where == "kind" or (where == "auto" and system.docker_works()):
        return _Place(KindCluster(paths.cache() / "kind.kubeconfig", "portside-demo"), ours=True)
    return _Place(OwnCluster(name), ours=True)


def _programs(cluster: Cluster, *, keep: bool) -> tuple[str, ...]:
    """Return only the programs that the demo needs, because each takes long to build."""
    tools = commands.PROGRAMS
    if isinstance(cluster, OwnCluster) and not cluster.running:
        return (*(name for name in binaries.NODE if keep or name != "coredns"), *tools)
    return (*tools, "kind") if isinstance(cluster, KindCluster) else tools


def _check(cluster: Cluster) -> None:
    """Check first for anything missing that would otherwise be noticed only after minutes."""
    needed = NODE_COMMANDS if isinstance(cluster, OwnCluster) else ()
    prerequisites.check("The demo", needed, _programs(cluster, keep=False))


def _start(place: _Place, *, keep: bool) -> None:
    """Start the cluster, unless it already runs."""
    cluster = place.cluster
    binaries.provide(*_programs(cluster, keep=keep))
    if isinstance(cluster, KindCluster):
        cluster.start()
    elif isinstance(cluster, OwnCluster) and cluster.running:
        say(f"Using the cluster {cluster.name}, which is already running.")
    elif isinstance(cluster, OwnCluster):
        # No part of the demo resolves a name; users of a cluster that is kept may.
        cluster.start("node", lifeline=not keep, dns=keep)
    place.up = True


def _load(cluster: Cluster, image: images.Image) -> None:
    with step(f"Loading {image.reference} into the cluster"):
        cluster.load_image(image.archive)


@contextmanager
def _cleaned(place: _Place, *, keep: bool) -> Iterator[None]:
    """Remove what the demo created, also after a failure, which is described first."""
    try:
        yield
    except TestbedError:
        if place.up:
            say(describe(place.cluster, OPERATOR.namespace, NAMESPACE))
        _remove(place)
        raise
    except BaseException:
        _remove(place)
        raise
    if not keep:
        _remove(place)


def _remove(place: _Place) -> None:
    if not place.up:
        return  # a cluster that fails to start removes itself
    if place.ours and isinstance(place.cluster, OwnCluster | KindCluster):
        with step("Removing the cluster"):  # with everything in it
            _stop(place.cluster)
    else:
        _remove_objects(place.cluster)


def _stop(cluster: OwnCluster | KindCluster) -> None:
    if isinstance(cluster, OwnCluster):
        cluster.stop(at_once=True)
    else:
        cluster.stop()


def _install(cluster: Cluster) -> None:
    with step("Installing the operator with Helm"):
        OPERATOR.put(cluster)
        OPERATOR.await_ready(cluster)


def _apply_agents(cluster: Cluster) -> None:
    sample = SAMPLE.relative_to(paths.REPOSITORY)
    with step(f"Applying {sample} and an agent with a tool, until they are Ready"):
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
        listed = {"apiVersion": "v1", "kind": "List", "items": [namespace, *tool_agent.objects(NAMESPACE)]}
        cluster.kubectl("apply", "-f-", stdin=json.dumps(listed))
        cluster.kubectl("apply", "-n", NAMESPACE, "-f", str(SAMPLE))
        agents = [f"agentdeployment/{name}" for name in (AGENT, tool_agent.AGENT)]
        cluster.kubectl("wait", "--for=condition=Ready", *agents, f"--timeout={READY_SECONDS}s", "-n", NAMESPACE)


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
            if worth_showing(line):
                say(f"    {line}")


def _ask_with_tools(cluster: Cluster) -> None:
    with (
        forwarded(cluster, NAMESPACE, f"svc/{tool_agent.AGENT}", 80) as url,
        step(f"POST {url}/chat, to the agent with a tool: {tool_agent.QUESTION}"),
    ):
        answer = json.loads("".join(_lines("POST", f"{url}/chat", {"message": tool_agent.QUESTION})))
        say(f"    {answer['response']!r}")
        for each in answer.get("steps", []):
            say(f"    called the tool {each['name']} with {json.dumps(each['input'])}: {each['content']!r}")


def worth_showing(line: str) -> bool:
    """Return whether a line of metrics is of one that the demo shows, and not of a series that is still zero."""
    return line.startswith(SHOWN_METRICS) and float(line.rpartition(" ")[2]) != 0


def _lines(method: str, url: str, body: dict[str, str] | None = None) -> Iterator[str]:
    """Yield the lines of the answer that are not empty, each as it arrives."""
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


def _print_how_to_reach(cluster: Cluster) -> None:
    say(f"""\
The cluster keeps running. To use it:
    export KUBECONFIG={cluster.kubeconfig}
    kubectl get agentdeployments -A
    kubectl port-forward -n {NAMESPACE} svc/{AGENT} 8000:80
    curl -s localhost:8000/chat -H 'Content-Type: application/json' -d '{{"message": "Hello"}}'
To remove all of it: make demo-down""")


def _remove_objects(cluster: Cluster) -> None:
    with step("Removing the agents, the operator and the resource definitions"):
        cluster.kubectl("delete", "-n", NAMESPACE, "agentdeployments", "--all", "--timeout=60s", check=False)
        # A namespace that still has pods when it is deleted is not checked again for half their grace period.
        cluster.kubectl("wait", "--for=delete", "pods", "--all", "-n", NAMESPACE, "--timeout=90s", check=False)
        cluster.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--timeout=120s", check=False)
        OPERATOR.remove(cluster)


def down() -> None:
    """Remove what a demo with `keep` left running."""
    OwnCluster(NAME).stop()
    if system.docker_works():
        KindCluster(paths.cache() / "kind.kubeconfig", "portside-demo").stop()
