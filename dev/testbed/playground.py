"""`make cluster-up`: a cluster on which every page of the documents works as written."""

from collections.abc import Iterable

from testbed import addons, binaries, commands, images, prerequisites
from testbed.addons import Addon
from testbed.cluster import NODE_COMMANDS, Level, OwnCluster
from testbed.console import say, step
from testbed.together import together

DEFAULT_NAME = "dev"


def bring_up(
    cluster: OwnCluster, level: Level = "node", without: Iterable[str] = (), *, lifeline: bool = False
) -> None:
    """Start the cluster unless it runs, load our images into its node, and install all add-ons not in `without`.

    On a running cluster this adds what is missing, and removes nothing. With `lifeline`, the cluster ends when this
    process does. Raises TestbedError; a cluster that has started is left running then.
    """
    wanted = addons.chosen(without)
    if (cluster.level if cluster.running else level) == "control-plane":
        _start(cluster, "control-plane", commands.PROGRAMS, lifeline=lifeline)
        return
    programs = _programs(wanted)
    prerequisites.check(f"The cluster {cluster.name}", NODE_COMMANDS, programs)
    built, _ = together(images.build_all, lambda: _start(cluster, "node", programs, lifeline=lifeline))
    for image in built or ():
        with step(f"Loading {image.reference}"):
            cluster.load_image(image.archive)
    addons.install(cluster, wanted)


def _programs(wanted: tuple[Addon, ...]) -> tuple[str, ...]:
    """Return the programs of a node, those of its user, and that of an add-on."""
    of_addons = (each.name for each in wanted if each.name == addons.METRICS_SERVER.name)
    return tuple(dict.fromkeys((*binaries.NODE, *commands.PROGRAMS, *of_addons)))


def _start(cluster: OwnCluster, level: Level, programs: tuple[str, ...], *, lifeline: bool) -> None:
    """Start the cluster unless it runs, and provide `programs`."""
    binaries.provide(*programs)
    if cluster.running:
        say(f"The cluster {cluster.name} is already running.")
    else:
        cluster.start(level, lifeline=lifeline)


def guide(name: str, wanted: tuple[Addon, ...]) -> str:
    """Return a text about what the cluster `name` with the add-ons `wanted` has, and how to use it."""
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
        "Next steps: docs/tutorials/first-agent.md",
        f"To stop it: make cluster-down{of_this}",
    ]
    return "\n".join(lines)


def _first_commands(wanted: tuple[Addon, ...]) -> list[str]:
    """Return the commands from the environment to a first answer: with the operator, or with the chart alone."""
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
