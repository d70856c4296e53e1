"""The commands of the tools, shared by `agent-operator` and `kubectl agent`."""

import asyncio
import sys
from pathlib import Path

import click

from agent_operator.api.crd import class_crd
from agent_operator.api.crd import crd as build_crd
from agent_operator.api.yaml import to_yaml_stream
from agent_operator.policy.settings import PolicyError
from agent_operator.policy.settings import load as load_policy
from agent_operator.tools.approvals.command import approvals, approve, reject
from agent_operator.tools.classes import from_file
from agent_operator.tools.errors import ToolError
from agent_operator.tools.importing.command import import_
from agent_operator.tools.keys.command import keys
from agent_operator.tools.options import FAILED, cluster, files, optional_files, reports_errors, with_class
from agent_operator.tools.pod_logs.command import logs
from agent_operator.tools.render import render as render_agents
from agent_operator.tools.terminal import show
from agent_operator.tools.usage.command import usage
from agent_operator.tools.validate import validate as validate_agents


@click.command()
def crd() -> None:
    """Print the CustomResourceDefinitions, for `kubectl apply --server-side -f -`."""
    show(to_yaml_stream([build_crd(), class_crd()]), newline=False)


@click.command(no_args_is_help=True)
@files
@click.option("-n", "--namespace", default="default", show_default=True, help="Namespace of agents that set none.")
@with_class
@reports_errors
def render(*, sources: tuple[str, ...], namespace: str, class_path: Path | None) -> None:
    """Print the objects that the operator would create for each AgentDeployment in FILE. Needs no cluster.

    Exit code 2 if a spec is invalid; each fault is one line with its file, object and field.

    \b
    Examples:
      render -f agent.yaml
      render -f agents/ -n prod
      render -f agent.yaml --class class.yaml
      kustomize build . | agent-operator render -f -
    """
    classes = from_file(class_path)
    show(to_yaml_stream(render_agents(sources, sys.stdin, namespace=namespace, classes=classes)), newline=False)


@click.command(no_args_is_help=True)
@files
@click.option("-n", "--namespace", default="default", show_default=True, help="Namespace of agents that set none.")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option("--strict", is_flag=True, help="Treat warnings as errors.")
@click.option(
    "--policy",
    "policy_path",
    type=click.Path(exists=True, path_type=Path),
    metavar="FILE",
    help="The operator's policy: the settings of its chart's policies.allow, or the ConfigMap with them, as YAML.",
)
@with_class
@reports_errors
def validate(
    *,
    sources: tuple[str, ...],
    namespace: str,
    output: str,
    strict: bool,
    policy_path: Path | None,
    class_path: Path | None,
) -> None:
    """Check each AgentDeployment and AgentClass in FILE against its schema and rules. Needs no cluster.

    Every fault of every file is one line, `file: object: field: message`. Valid but inadvisable settings are
    warnings. Exit code 0 if there are no faults, 2 if there are any.

    \b
    Examples:
      validate -f agent.yaml
      validate -f agents/ --strict -o json
      validate -f agent.yaml --policy policy.yaml --class class.yaml
    """
    try:
        policy = load_policy(policy_path) if policy_path is not None else None
    except PolicyError as error:
        raise ToolError(str(error)) from error
    classes = from_file(class_path)
    verdict = validate_agents(sources, sys.stdin, namespace=namespace, policy=policy, classes=classes)
    if output == "json":
        show(verdict.to_json())
    else:
        for remark in verdict.remarks:
            show(f"{remark.severity.capitalize()}: {remark}", error=True)
        if not verdict.errors:
            show(f"{verdict.valid} valid")
    if verdict.errors or (strict and verdict.warnings):
        raise SystemExit(FAILED)


@click.command(no_args_is_help=True)
@click.argument("names", nargs=-1, metavar="[NAME]...")
@optional_files
@with_class
@cluster
@reports_errors
def diff(
    *,
    names: tuple[str, ...],
    sources: tuple[str, ...],
    class_path: Path | None,
    namespace: str | None,
    context: str | None,
    kubeconfig: str | None,
) -> None:
    """Show what the operator would change in the cluster, for agents in FILE or for existing ones (NAME).

    The API server computes the changes in dry runs, so nothing is changed; you need permission to get, list and patch
    the agent's objects. Values of Secrets are never shown. Exit code 0 if nothing would change, 1 if something would,
    2 if the changes could not be determined or could not be made, as in `kubectl diff`.

    \b
    Examples:
      diff -f agent.yaml
      diff my-agent -n prod
      helm template my-agent ./chart | kubectl agent diff -f -
    """
    from agent_operator.tools.cluster import Target  # noqa: PLC0415  takes a second
    from agent_operator.tools.diff import differences  # noqa: PLC0415
    from agent_operator.tools.diff_output import unified  # noqa: PLC0415

    if bool(names) == bool(sources):
        raise click.UsageError("Specify either names of agents or -f FILE.")
    target = Target(kubeconfig, context, namespace)
    changed = failed = False
    for each in asyncio.run(differences(target, names, sources, sys.stdin, from_file(class_path))):
        for text in filter(None, map(unified, each.changes)):
            changed = True
            _print_diff(text)
        for problem in each.problems:
            failed = True
            show(f"Error: {each.agent}: {problem}", error=True)
    raise SystemExit(FAILED if failed else int(changed))


def _print_diff(text: str) -> None:
    colours = {"+": "green", "-": "red", "@": "cyan"}
    for line in text.splitlines():
        show(line, colour=colours.get(line[:1]))


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("-A", "--all-namespaces", "everywhere", is_flag=True, help="Check the agents of all namespaces.")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
@cluster
@reports_errors
def doctor(
    *,
    names: tuple[str, ...],
    everywhere: bool,
    output: str,
    namespace: str | None,
    context: str | None,
    kubeconfig: str | None,
) -> None:
    """Explain why agents are not ready, and what to do: the named agents, or all agents of the namespace.

    Checks the chain: definition, operator, spec, objects, pods, service, scaling. The first problem is the cause.
    Nothing is changed, and no content of a Secret is read. Exit code 0 if all are ready, 1 if one is not, 2 if that
    could not be determined.

    \b
    Examples:
      doctor my-agent -n prod
      doctor -A
      doctor my-agent -o json
    """
    from agent_operator.tools.cluster import Target  # noqa: PLC0415  takes a second
    from agent_operator.tools.doctor.report import to_json, to_text  # noqa: PLC0415
    from agent_operator.tools.doctor.run import visit  # noqa: PLC0415

    if names and everywhere:
        raise click.UsageError("Specify either names of agents or --all-namespaces.")
    reports = asyncio.run(visit(Target(kubeconfig, context, namespace), names, everywhere=everywhere))
    if output == "json":
        show(to_json(reports))
    elif reports:
        show("\n\n".join(to_text(each, whole=bool(names)) for each in reports))
    else:
        show("No agents found.")
    raise SystemExit(int(not all(each.ready for each in reports)))


@click.command("show", no_args_is_help=True)
@click.argument("name")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
@with_class
@cluster
@reports_errors
def show_(
    *,
    name: str,
    output: str,
    class_path: Path | None,
    namespace: str | None,
    context: str | None,
    kubeconfig: str | None,
) -> None:
    """Show each value of an agent that is in effect, and its origin: the spec, the class, or the default of the schema.

    A value that equals the default of the schema counts as unset. Keys and values of variables are masked. Exit code 0,
    1 if the class refuses the agent, 2 if that could not be determined.

    \b
    Examples:
      show my-agent -n prod
      show my-agent --class class.yaml -o json
    """
    from agent_operator.tools.cluster import Target  # noqa: PLC0415  takes a second
    from agent_operator.tools.show import show_agent, to_json, to_text  # noqa: PLC0415

    shown = asyncio.run(show_agent(Target(kubeconfig, context, namespace), name, from_file(class_path)))
    show(to_json(shown) if output == "json" else to_text(shown))
    if shown.refusal is not None:
        show(f"Error: {shown.refusal}", error=True)
    raise SystemExit(int(shown.refusal is not None))


COMMANDS: tuple[click.Command, ...] = (
    *(crd, render, validate, diff, show_, doctor, import_, logs),
    *(approvals, approve, reject, keys, usage),
)
