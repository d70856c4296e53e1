"""The add-ons that `make cluster-up` installs besides our images: all that the tutorial and the how-to guides use.

The e2e tests install them with the same functions.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from stand_in import SERVER
from testbed import paths, programs, redis, scripts, workloads
from testbed.cluster import Cluster
from testbed.console import say, step
from testbed.errors import TestbedError
from testbed.programs import READ, Program
from testbed.report import describe

OPERATOR_NAMESPACE = "portside-system"
MODEL_API = "model-api"
MODEL_API_PORT = 8000
ALL = "all"

METRICS_SERVER = Program(
    "metrics-server",
    (
        "--cert-dir=/data",
        "--secure-port=10250",
        "--kubelet-preferred-address-types=InternalIP",
        "--kubelet-use-node-status-port",
        # A value for a pod takes two readings; the default is one reading each minute.
        "--metric-resolution=15s",
        # The kubelet's certificate is self-signed.
        "--kubelet-insecure-tls",
    ),
    10250,
    # Ready when it has values, not when it runs: before that, autoscalers find none.
    "/readyz",
    api="v1beta1.metrics.k8s.io",
    rules=(
        {"apiGroups": [""], "resources": ["nodes/metrics"], "verbs": ["get"]},
        {"apiGroups": [""], "resources": ["pods", "nodes"], "verbs": READ},
    ),
)


@dataclass(frozen=True)
class Addon:
    """A part of a cluster that can be left out.

    `put` applies it without waiting, `await_ready` waits for it, and `remove` removes what `put` created.
    `put` and `await_ready` raise TestbedError, and may be called again at any time.
    """

    name: str
    namespace: str
    summary: str
    put: Callable[[Cluster], None]
    await_ready: Callable[[Cluster], None]
    remove: Callable[[Cluster], None]
    api: str = ""
    """The APIService that identifies the add-on. When empty, the add-on is identified by its namespace."""

    def is_there(self, cluster: Cluster) -> bool:
        """Return whether the cluster already has the add-on."""
        sign = ("apiservice", self.api) if self.api else ("namespace", self.namespace)
        return bool(cluster.kubectl("get", *sign, "-oname", "--ignore-not-found"))


def _put_operator(cluster: Cluster) -> None:
    chart = str(paths.REPOSITORY / "helm" / "agent-operator")
    cluster.helm("upgrade", "--install", "agent-operator", chart, "-n", OPERATOR_NAMESPACE, "--create-namespace")


def _await_operator(cluster: Cluster) -> None:
    workloads.await_ready(cluster, OPERATOR_NAMESPACE, "agent-operator")


def _remove_operator(cluster: Cluster) -> None:
    cluster.helm("uninstall", "agent-operator", "-n", OPERATOR_NAMESPACE, "--ignore-not-found", "--wait")
    definitions = [f"{plural}.portside.dev" for plural in ("agentdeployments", "agentclasses")]
    cluster.kubectl("delete", "crd", *definitions, "--ignore-not-found")
    cluster.kubectl("delete", "namespace", OPERATOR_NAMESPACE, "--ignore-not-found", "--timeout=120s")


def _put_model_api(cluster: Cluster) -> None:
    anywhere = ("--host", "0.0.0.0", "--port", str(MODEL_API_PORT))  # noqa: S104  it is for a pod
    objects = scripts.objects(MODEL_API, SERVER, MODEL_API_PORT, *anywhere)
    workloads.apply(cluster, MODEL_API, [workloads.namespace(MODEL_API), *objects])


def _put_redis(cluster: Cluster) -> None:
    workloads.apply(cluster, redis.NAME, [workloads.namespace(redis.NAME), *redis.objects()])


def _put_metrics_server(cluster: Cluster) -> None:
    """Start our metrics-server, unless the cluster came with its own."""
    place = METRICS_SERVER.name
    owner = "-ojsonpath={.spec.service.namespace}"
    found = cluster.kubectl("get", "apiservice", METRICS_SERVER.api, owner, "--ignore-not-found")
    if found not in ("", place):
        say(f"    the cluster already has a server of {METRICS_SERVER.api}, in namespace {found}")
        return
    workloads.apply(cluster, place, [workloads.namespace(place)])
    programs.put(cluster, place, METRICS_SERVER)


def _await_metrics_server(cluster: Cluster) -> None:
    if cluster.kubectl("get", "namespace", METRICS_SERVER.name, "-oname", "--ignore-not-found"):
        programs.await_ready(cluster, METRICS_SERVER.name, METRICS_SERVER)


def _remove_metrics_server(cluster: Cluster) -> None:
    programs.forget(cluster, METRICS_SERVER.name, METRICS_SERVER)
    _delete_namespace(cluster, METRICS_SERVER.name)


def _delete_namespace(cluster: Cluster, name: str) -> None:
    cluster.kubectl("delete", "namespace", name, "--ignore-not-found", "--wait=false")


def _deployed(name: str, summary: str, put: Callable[[Cluster], None]) -> Addon:
    """Return an add-on that consists of the Deployment `name` in the namespace `name`, and of nothing outside it."""
    return Addon(
        name,
        name,
        summary,
        put,
        lambda cluster: workloads.await_ready(cluster, name, name),
        lambda cluster: _delete_namespace(cluster, name),
    )


OPERATOR = Addon(
    "operator",
    OPERATOR_NAMESPACE,
    f"the operator, installed by its chart in namespace {OPERATOR_NAMESPACE}",
    _put_operator,
    _await_operator,
    _remove_operator,
)
ADDONS = (
    OPERATOR,
    _deployed(
        MODEL_API,
        f"a stand-in for the model API: agent.baseUrl {scripts.url(MODEL_API, MODEL_API)}, any key works",
        _put_model_api,
    ),
    _deployed(
        redis.NAME,
        f"a Redis: redis.url redis://{redis.NAME}.{redis.NAME}.svc:{redis.PORT}, also with user {redis.USER} and "
        f"password {redis.PASSWORD}",
        _put_redis,
    ),
    Addon(
        METRICS_SERVER.name,
        METRICS_SERVER.name,
        "what `kubectl top` shows, and what autoscalers on CPU and memory need",
        _put_metrics_server,
        _await_metrics_server,
        _remove_metrics_server,
        api=METRICS_SERVER.api,
    ),
)
NAMES = tuple(addon.name for addon in ADDONS)


def chosen(without: Iterable[str] = ()) -> tuple[Addon, ...]:
    """Return all add-ons except those in `without`; ALL excludes every add-on."""
    left_out = set(without)
    return () if ALL in left_out else tuple(addon for addon in ADDONS if addon.name not in left_out)


def named(*names: str) -> tuple[Addon, ...]:
    """Return the add-ons with these names."""
    return tuple(addon for addon in ADDONS if addon.name in names)


def install(cluster: Cluster, addons: Iterable[Addon]) -> None:
    """Install `addons` in the cluster, and wait until all are ready. Existing ones are updated.

    Raises TestbedError at the first that does not come up, with its state and how to leave it out.
    """
    wanted = tuple(addons)
    for addon in wanted:
        with step(f"Installing {addon.name}"), _explained(cluster, addon):
            addon.put(cluster)
    for addon in wanted:
        with step(f"Waiting until {addon.name} is ready"), _explained(cluster, addon):
            addon.await_ready(cluster)


@contextmanager
def running(cluster: Cluster, *names: str) -> Iterator[None]:
    """Run the add-ons `names` in the cluster while the body runs; those that it already had stay."""
    wanted = named(*names)
    ours = [addon for addon in wanted if not addon.is_there(cluster)]
    try:
        install(cluster, wanted)
        yield
    finally:
        for addon in ours:
            addon.remove(cluster)


@contextmanager
def _explained(cluster: Cluster, addon: Addon) -> Iterator[None]:
    try:
        yield
    except TestbedError as error:
        raise TestbedError(
            f"The add-on {addon.name} did not come up: {error}\n\n{describe(cluster, addon.namespace)}\n\n"
            f"The add-on {addon.name} did not come up (above: its pods, events and logs). The cluster stays up.\n"
            f"To retry, run the same command. To leave it out: make cluster-up WITHOUT={addon.name}"
        ) from error
