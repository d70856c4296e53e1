"""The command line of the test bed: `python -m testbed --help`."""

import os
import shlex
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from types import FrameType

import click

from testbed import addons, binaries, commands, console, demo, images, paths, playground, prerequisites, together
from testbed.cluster import NODE_COMMANDS, KindCluster, Level, OwnCluster, own_clusters
from testbed.errors import TestbedError

KIND_NAME = "portside"
# In addition to the programs of a cluster; the tests of compose, metrics and scaling run them.
OF_TESTS = ("docker-compose", "prometheus", "metrics-server", "prometheus-adapter")
# The exit code that shells use for a command ended by Ctrl-C.
INTERRUPTED = 130


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Real Kubernetes for Portside's tests and demo, from pinned sources, without a registry or Docker."""


_UP_HELP = "\n\n".join(
    (
        "Start a cluster with all that the documentation uses, leave it running, and print the path of its kubeconfig.",
        "Its node has our images and these add-ons:",
        "\n".join(["\b", *(f"{addon.name:<16}{addon.summary}" for addon in addons.ADDONS)]),
        "On a running cluster, this adds what is missing and removes nothing.",
    )
)


@main.command(help=_UP_HELP)
@click.option("--name", default="dev", show_default=True, help="Name of the cluster; several can run side by side.")
@click.option(
    "--level",
    type=click.Choice(["control-plane", "node"]),
    default="node",
    show_default=True,
    help="An API server with its controllers, or in addition a node that runs pods (as root).",
)
@click.option(
    "--without",
    multiple=True,
    envvar="WITHOUT",
    type=click.Choice([*addons.NAMES, addons.ALL]),
    help=f"An add-on to leave out, or {addons.ALL}. May be repeated; WITHOUT takes several, separated by spaces: "
    'make cluster-up WITHOUT="redis metrics-server".',
)
def up(name: str, level: Level, without: tuple[str, ...]) -> None:
    cluster = OwnCluster(name)
    try:
        with console.progress():
            playground.bring_up(cluster, level, without)
    except KeyboardInterrupt:
        if not cluster.running:
            raise
        console.say(f"\nInterrupted. The cluster {name} stays up: run this again to complete it.")
        sys.exit(INTERRUPTED)
    wanted = addons.chosen(without) if cluster.level == "node" else ()
    console.say(playground.guide(name, wanted))
    click.echo(cluster.kubeconfig)


@main.command()
@click.option("--name", default="dev", show_default=True, help="Name of the cluster.")
def env(name: str) -> None:
    """Print shell commands that set KUBECONFIG to a cluster, and put kubectl, helm and `kubectl agent` on PATH."""
    cluster = OwnCluster(name)
    if not cluster.running:
        raise TestbedError(f"The cluster {name} is not running. Start one: make cluster-up")
    click.echo(f"export KUBECONFIG={shlex.quote(str(cluster.kubeconfig))}")
    click.echo(f'export PATH={shlex.quote(commands.search_path(cluster.folder / "bin"))}:"$PATH"')


@main.command()
@click.option("--name", default="dev", show_default=True, help="Name of the cluster.")
def down(name: str) -> None:
    """Stop a cluster and remove everything that it left."""
    OwnCluster(name).stop()


@main.command()
def status() -> None:
    """List the clusters, and whether each is running."""
    for cluster in own_clusters():
        state = f"running ({cluster.level})" if cluster.running else "dead; the next start removes it"
        click.echo(f"{cluster.name}\t{state}\t{cluster.kubeconfig}")


@main.command()
@click.argument("names", nargs=-1, type=click.Choice([name for each in binaries.FAMILIES for name in each.programs]))
def tools(names: tuple[str, ...]) -> None:
    """Print the paths of the programs NAMES; missing ones are built first (default: those of a node, and helm)."""
    for path in binaries.provide(*(names or (*binaries.NODE, "helm"))).values():
        click.echo(path)


@main.command("image")
@click.argument("context", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("reference")
@click.option("--name", default="dev", show_default=True, help="Name of the cluster.")
def build_image(context: Path, reference: str, name: str) -> None:
    """Build the Dockerfile in the folder CONTEXT as the image REFERENCE, and load it into a cluster.

    Where no registry is reachable, `FROM ${PYTHON_IMAGE}` is the base of our own images: Debian with Python.
    """
    cluster = OwnCluster(name)
    if not (cluster.running and cluster.level == "node"):
        raise TestbedError(f"No node of a cluster {name} is running. Start one: make cluster-up")
    if not (context / "Dockerfile").is_file():
        raise TestbedError(f"{context} has no Dockerfile.")
    with console.progress(), tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / "image.tar"
        images.build(context, reference, archive)
        with console.step(f"Loading {reference} into the cluster {name}"):
            cluster.load_image(archive)


@main.command("images")
def build_images() -> None:
    """Build the images, and print the path of each image's archive."""
    for image in images.build_all():
        click.echo(image.archive)


@main.command()
def prepare() -> None:
    """Build the images and all programs that the tests use, in parallel."""
    programs = tuple(dict.fromkeys((*binaries.NODE, "helm", *OF_TESTS)))
    prerequisites.check("Running the tests", () if "KUBECONFIG" in os.environ else NODE_COMMANDS, programs)
    with console.progress():
        together.together(images.build_all, lambda: binaries.provide(*programs))


@main.command("demo")
@click.option("--keep", is_flag=True, envvar="KEEP", help="Leave everything running, and print how to reach it.")
@click.option(
    "--cluster",
    "where",
    type=click.Choice(["auto", "own", "kind", "current"]),
    default="auto",
    show_default=True,
    help="kind, our own, the one that KUBECONFIG names (current), or kind if Docker runs and our own otherwise (auto).",
)
@click.option("--name", default=demo.NAME, show_default=True, help="Name of our own cluster.")
def show(*, keep: bool, where: demo.Where, name: str) -> None:
    """Show the main workflow: apply an AgentDeployment, wait for its pods, and query it through a port-forward."""
    kubeconfig = os.environ.get("KUBECONFIG")
    demo.run(where, name, Path(kubeconfig) if kubeconfig else None, keep=keep)


@main.command("demo-down")
def demo_down() -> None:
    """Remove what `demo --keep` left running."""
    demo.down()


@main.command("kind")
@click.option("--delete", is_flag=True, help="Delete the cluster.")
def kind_cluster(*, delete: bool) -> None:
    """Create a kind cluster for the tests (needs Docker), and print the path of its kubeconfig."""
    cluster = KindCluster(paths.cache() / "kind-dev.kubeconfig", KIND_NAME)
    if delete:
        cluster.stop()
        return
    cluster.start()
    console.say(f"To test on it:  make test KUBECONFIG={cluster.kubeconfig}")
    click.echo(cluster.kubeconfig)


@main.command()
def clean() -> None:
    """Stop every cluster and remove the cache: programs, images, toolchain. The next run rebuilds them."""
    for cluster in own_clusters():
        cluster.stop()
    shutil.rmtree(paths.cache(), ignore_errors=True)


def _interrupted(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _interrupted)  # so that `kill` cleans up as Ctrl-C does
    try:
        main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except TestbedError as error:
        console.say(f"\nerror: {error}")
        sys.exit(1)
    except (KeyboardInterrupt, click.Abort):
        console.say("\nInterrupted. Everything that was started is stopped.")
        sys.exit(INTERRUPTED)
