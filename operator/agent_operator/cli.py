"""The command `agent-operator`."""

import asyncio
import sys

import click
import structlog

from agent_operator import __version__, logs
from agent_operator.api.crd import crd as build_crd
from agent_operator.api.yaml import to_yaml, to_yaml_stream
from agent_operator.logs import LogFormat
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


@main.command()
@click.option(
    "--namespace",
    "namespaces",
    multiple=True,
    envvar="AGENT_OPERATOR_NAMESPACE",
    show_envvar=True,
    metavar="NAME",
    help="Serve only this namespace; may be given several times. All namespaces when not given.",
)
@click.option(
    "--health-port",
    type=click.IntRange(1, 65535),
    default=8080,
    show_default=True,
    envvar="AGENT_OPERATOR_HEALTH_PORT",
    show_envvar=True,
    help="Port of /healthz and /metrics.",
)
@click.option(
    "--log-format",
    type=click.Choice(["json", "text"]),
    default="json",
    show_default=True,
    envvar="AGENT_OPERATOR_LOG_FORMAT",
    show_envvar=True,
    help="One JSON object a line, or text for people.",
)
@click.option(
    "--log-level",
    type=click.Choice(["DEBUG", "INFO", "WARNING", "ERROR"], case_sensitive=False),
    default="INFO",
    show_default=True,
    envvar="AGENT_OPERATOR_LOG_LEVEL",
    show_envvar=True,
    help="Least level that is logged.",
)
def run(*, namespaces: tuple[str, ...], health_port: int, log_format: LogFormat, log_level: str) -> None:
    """Run the operator: keep what every AgentDeployment asks for running.

    In a pod it uses the pod's service account, elsewhere the cluster that KUBECONFIG (or ~/.kube/config) names.
    Ends with code 0 when told to (SIGTERM), and with 1 and a line that says what to do when it cannot work.
    """
    # What kopf and the Kubernetes client import takes a second, which the other commands need not wait for.
    from agent_operator.controller import operator  # noqa: PLC0415

    logs.set_up(log_level.upper(), log_format)
    try:
        asyncio.run(operator.run(namespaces, health_port))
    except (operator.StartError, operator.EndedError) as error:
        structlog.get_logger(__name__).error(str(error))
        raise SystemExit(1) from None
