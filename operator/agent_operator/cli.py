"""The command `agent-operator`."""

import sys

import click

from agent_operator import __version__
from agent_operator.api.crd import crd as build_crd
from agent_operator.api.yaml import to_yaml, to_yaml_stream
from agent_operator.render import RenderError
from agent_operator.render import render as render_source


@click.group(context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "AGENT_OPERATOR"})
@click.version_option(__version__, prog_name="agent-operator")
def main() -> None:
    """Run AI agents on Kubernetes: the operator of Portside, and what helps to work with AgentDeployments."""


@main.command()
def crd() -> None:
    """Print the CustomResourceDefinition, for `kubectl apply --server-side -f -`."""
    click.echo(to_yaml(build_crd()), nl=False)


@main.command()
@click.option(
    "-f",
    "--file",
    "source",
    required=True,
    metavar="FILE",
    help="A file, a folder of YAML and JSON files, or - for stdin.",
)
@click.option("-n", "--namespace", default="default", show_default=True, help="Namespace of agents that name none.")
def render(*, source: str, namespace: str) -> None:
    """Print the objects that the operator would make of each AgentDeployment in FILE. Needs no cluster.

    Exit code 2 when a spec is wrong; each fault is one line with its file, object and field.
    """
    try:
        objects = render_source(source, sys.stdin, namespace=namespace)
    except RenderError as error:
        for line in error.lines:
            click.echo(f"Error: {line}", err=True)
        raise SystemExit(2) from None
    click.echo(to_yaml_stream(objects), nl=False)
