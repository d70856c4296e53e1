"""The commands `agent-operator` and `kubectl agent`."""

import asyncio
import sys
from pathlib import Path

import click
import structlog

from agent_operator import __version__, logs
from agent_operator.logs import LogFormat
from agent_operator.tools.commands import COMMANDS
from agent_operator.tools.completion import candidates
from agent_operator.tools.terminal import show


@click.group(context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "AGENT_OPERATOR"})
@click.version_option(__version__, prog_name="agent-operator")
def main() -> None:
    """Run AI agents on Kubernetes: the Portside operator, and tools to work with AgentDeployments."""


for command in COMMANDS:
    main.add_command(command)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="kubectl agent")
def agent() -> None:
    """Work with AgentDeployments: find out why one is not ready, preview changes, validate files."""


for command in COMMANDS:
    agent.add_command(command)


def plugin() -> None:
    """Run the program `kubectl-agent`, which kubectl starts for `kubectl agent`."""
    agent(prog_name="kubectl agent")


def plugin_completion() -> None:
    """Run `kubectl_complete-agent`, which kubectl's completion starts to complete words after `kubectl agent`."""
    for line in candidates(agent, sys.argv[1:]):
        show(line)


@main.command()
@click.option(
    "--namespace",
    "namespaces",
    multiple=True,
    envvar="AGENT_OPERATOR_NAMESPACE",
    show_envvar=True,
    metavar="NAME",
    help="Serve only this namespace; can be repeated. All namespaces by default.",
)
@click.option(
    "--selector",
    envvar="AGENT_OPERATOR_SELECTOR",
    show_envvar=True,
    metavar="SELECTOR",
    help="Serve only AgentDeployments with these labels, such as portside.dev/operator=blue. All by default.",
)
@click.option(
    "--policy",
    "policy_path",
    type=click.Path(exists=True, path_type=Path),
    envvar="AGENT_OPERATOR_POLICY",
    show_envvar=True,
    metavar="PATH",
    help="Policy for what AgentDeployments may request: a YAML file with the settings of the chart's policies.allow, "
    "or the folder where its ConfigMap is mounted. Read at startup. Everything is allowed by default.",
)
@click.option(
    "--class",
    "class_path",
    type=click.Path(exists=True, path_type=Path),
    envvar="AGENT_OPERATOR_CLASS",
    show_envvar=True,
    metavar="PATH",
    help="File or folder with AgentClass objects, instead of those of the cluster, which an operator of single "
    "namespaces cannot read. Read at startup.",
)
@click.option(
    "--leader-elect/--no-leader-elect",
    default=None,
    envvar="AGENT_OPERATOR_LEADER_ELECT",
    show_envvar=True,
    help="Elect a leader, so that only one of several operators for the same agents is active. On in a pod, off "
    "elsewhere.",
)
@click.option(
    "--lease-namespace",
    envvar="AGENT_OPERATOR_LEASE_NAMESPACE",
    show_envvar=True,
    metavar="NAME",
    help="Namespace of the leader's Lease. The pod's own by default.",
)
@click.option(
    "--lease-name",
    envvar="AGENT_OPERATOR_LEASE_NAME",
    show_envvar=True,
    metavar="NAME",
    help="Name of the leader's Lease. By default agent-operator, with a hash of namespaces and selector if set.",
)
@click.option(
    "--resync-seconds",
    type=click.FloatRange(1),
    default=300,
    show_default=True,
    envvar="AGENT_OPERATOR_RESYNC_SECONDS",
    show_envvar=True,
    help="Interval at which all objects are listed again, and added or removed kinds are detected.",
)
@click.option(
    "--watch-silence-seconds",
    type=click.FloatRange(1),
    default=70,
    show_default=True,
    envvar="AGENT_OPERATOR_WATCH_SILENCE_SECONDS",
    show_envvar=True,
    help="Time without data after which a watch counts as dead. API servers send a bookmark each minute.",
)
@click.option(
    "--health-port",
    type=click.IntRange(1, 65535),
    default=8080,
    show_default=True,
    envvar="AGENT_OPERATOR_HEALTH_PORT",
    show_envvar=True,
    help="Port of /healthz, /readyz and /metrics.",
)
@click.option(
    "--log-format",
    type=click.Choice(["json", "text"]),
    default="json",
    show_default=True,
    envvar="AGENT_OPERATOR_LOG_FORMAT",
    show_envvar=True,
    help="One JSON object per line, or human-readable text.",
)
@click.option(
    "--log-level",
    type=click.Choice(["DEBUG", "INFO", "WARNING", "ERROR"], case_sensitive=False),
    default="INFO",
    show_default=True,
    envvar="AGENT_OPERATOR_LOG_LEVEL",
    show_envvar=True,
    help="Minimum level that is logged.",
)
def run(
    *,
    namespaces: tuple[str, ...],
    selector: str | None,
    policy_path: Path | None,
    class_path: Path | None,
    leader_elect: bool | None,
    lease_namespace: str | None,
    lease_name: str | None,
    resync_seconds: float,
    watch_silence_seconds: float,
    health_port: int,
    log_format: LogFormat,
    log_level: str,
) -> None:
    """Run the operator: reconcile every AgentDeployment.

    In a pod it uses the pod's service account, elsewhere the cluster in KUBECONFIG (or ~/.kube/config).
    Exits with code 0 on SIGTERM, and with code 1 and one line that explains what to do if it cannot run.
    """
    # Importing kopf and the Kubernetes client takes a second, which the other commands do not need.
    from agent_operator.classes import load  # noqa: PLC0415
    from agent_operator.controller import lease as leases  # noqa: PLC0415
    from agent_operator.controller import run  # noqa: PLC0415
    from agent_operator.kube import kubeconfig  # noqa: PLC0415
    from agent_operator.policy import settings  # noqa: PLC0415

    lease = None
    if kubeconfig.in_cluster() if leader_elect is None else leader_elect:
        lease = leases.lease(lease_namespace, lease_name, namespaces, selector)
        if lease is None:
            raise click.UsageError("--leader-elect outside a pod requires --lease-namespace, the Lease's namespace.")
    try:
        policy = settings.load(policy_path) if policy_path is not None else None
        classes = load.load_classes(class_path) if class_path is not None else None
    except (settings.PolicyError, load.ClassError) as error:
        raise click.UsageError(str(error)) from error
    options = run.Options(
        namespaces=namespaces,
        selector=selector,
        lease=lease,
        health_port=health_port,
        resync_seconds=resync_seconds,
        silence_seconds=watch_silence_seconds,
        policy=policy,
        classes=classes,
    )
    logs.set_up(log_level.upper(), log_format)
    try:
        asyncio.run(run.run(options))
    except (run.StartError, run.EndedError) as error:
        structlog.get_logger(__name__).error(str(error))
        raise SystemExit(1) from None
