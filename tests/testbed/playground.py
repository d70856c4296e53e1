"""`make cluster-up`: a cluster on which every page of the documents works as it is written."""

from collections.abc import Iterable

from testbed import addons, binaries, commands, images
from testbed.addons import Addon
from testbed.cluster import Level, OwnCluster
from testbed.console import say, step

DEFAULT_NAME = "dev"


def bring_up(
    cluster: OwnCluster, level: Level = "node", without: Iterable[str] = (), *, lifeline: bool = False
) -> None:
    """Start the cluster unless it runs, load our images into its node, and install the add-ons but those of `without`.

    On a cluster that runs this adds what is missing, and removes nothing. With `lifeline` the cluster ends when this
    process does. Raises TestbedError; a cluster that did start is left running then.
    """
    wanted = addons.chosen(without)
    running = cluster.running
    pods = (cluster.level if running else level) == "node"
    binaries.provide(*commands.PROGRAMS)
    if pods and addons.METRICS_SERVER.name in {addon.name for addon in wanted}:
        binaries.provide(addons.METRICS_SERVER.name)
    built = images.build_all() if pods else []
    if running:
        say(f"The cluster {cluster.name} is up already.")
    else:
        cluster.start(level, lifeline=lifeline)
    for image in built:
        with step(f"Loading {image.reference}"):
            cluster.load_image(image.archive)
    if pods:
        addons.install(cluster, wanted)


def guide(name: str, wanted: tuple[Addon, ...]) -> str:
    """Return what the cluster `name` with the add-ons `wanted` has, and what to do with it."""
    of_this = "" if name == DEFAULT_NAME else f" NAME={name}"
    width = max(len(each) for each in addons.NAMES)
    left_out = [each for each in addons.NAMES if each not in {addon.name for addon in wanted}]
    lines = [f"\nThe cluster {name} has our images" + (" and:" if wanted else ".")]
    lines += [f"    {addon.name:<{width}}  {addon.summary}" for addon in wanted]
    if left_out:
        them = "it" if len(left_out) == 1 else "them"
        lines.append(f"Left out: {', '.join(left_out)}. To add {them}: make cluster-up{of_this}")
    lines += [
        "",
        "To use it (kubectl, helm and kubectl agent on PATH, KUBECONFIG set):",
        f'    eval "$(make -s cluster-env{of_this})"',
        *(f"    {command}" for command in _first_commands(wanted)),
        "From there: docs/tutorial.md",
        f"To end it:  make cluster-down{of_this}",
    ]
    return "\n".join(lines)


def _first_commands(wanted: tuple[Addon, ...]) -> list[str]:
    """Return the commands from the environment to a first answer: by the operator, or by the chart alone without it."""
    if "operator" not in {addon.name for addon in wanted}:
        return [
            "helm install hello-agent helm/agent --set agent.provider=echo --wait",
            'kubectl exec deployment/hello-agent -- agent-service ask "Hello"',
        ]
    return [
        "kubectl apply -f manifests/samples/echo-agent.yaml",
        "kubectl wait --for=condition=Ready agentdeployment/hello-agent --timeout=2m",
        'kubectl exec deployment/hello-agent -- agent-service ask "Hello"',
        "kubectl agent doctor hello-agent",
    ]
