"""The command `import`."""

import asyncio
import json
import sys
from collections.abc import Sequence

import click

from agent_operator.api.yaml import to_yaml_stream
from agent_operator.tools.importing.convert import AGENT, KINDS, Imported, import_files
from agent_operator.tools.importing.deployment import Choices
from agent_operator.tools.options import cluster, optional_files, reports_errors
from agent_operator.tools.terminal import show

_HEADINGS = {"lost": "No counterpart", "note": "Note"}


@click.command("import", no_args_is_help=True)
@click.argument("workload", required=False, metavar="[NAME]")
@optional_files
@click.option("--kind", type=click.Choice(KINDS, case_sensitive=False), help=f"Which of both; {AGENT} is kagent's.")
@click.option("--name", "new_name", metavar="NAME", help="Name of the AgentDeployment. That of the source by default.")
@click.option("--container", metavar="NAME", help="The container that is the agent, if the pods have several.")
@click.option(
    "--protocol",
    type=click.Choice(["invocations", "a2a", "openai", "http"]),
    help="How the container is called. By default http for a Deployment, and a2a for an agent of kagent.",
)
@click.option("-o", "--output", type=click.Choice(["yaml", "json"]), default="yaml", show_default=True)
@cluster
@reports_errors
def import_(
    *,
    workload: str | None,
    sources: tuple[str, ...],
    kind: str | None,
    new_name: str | None,
    container: str | None,
    protocol: str | None,
    output: str,
    namespace: str | None,
    context: str | None,
    kubeconfig: str | None,
) -> None:
    """Print AgentDeployments for Deployments and for Agents of kagent, in FILE or in the cluster (NAME).

    A Deployment is converted with the Service, Ingress, HorizontalPodAutoscaler and PodDisruptionBudget that belong to
    it. Nothing is changed, no Secret is read, and the result is valid. What has no counterpart is listed on standard
    error with what to do instead. Exit code 0 if everything was converted, 2 if something could not be.

    \b
    Examples:
      import -f deployment.yaml > agent.yaml
      import my-agent -n prod --name my-new-agent
      kustomize build . | kubectl agent import -f -
    """
    if bool(workload) == bool(sources):
        raise click.UsageError("Specify either the name of a Deployment or Agent, or -f FILE.")
    choices = Choices(new_name, container, protocol)
    if workload:
        from agent_operator.tools.cluster import Target  # noqa: PLC0415  takes a second
        from agent_operator.tools.importing.gather import import_name  # noqa: PLC0415

        target = Target(kubeconfig, context, namespace)
        found, remaining = asyncio.run(import_name(target, workload, choices, kind))
    else:
        found, remaining = import_files(sources, sys.stdin, choices, kind)
    _report(found, remaining)
    _print(found, output)


def _report(found: Sequence[Imported], remaining: Sequence[str]) -> None:
    for kind, heading in _HEADINGS.items():
        for each in found:
            for note in (note for note in each.notes if note.kind == kind):
                show(f"{heading}: {each.title}: {note.field}: {note.message}.", error=True)
    for line in remaining:
        show(f"Note: {line}.", error=True)


def _print(found: Sequence[Imported], output: str) -> None:
    documents = [each.document for each in found]
    if output == "yaml":
        show(to_yaml_stream(documents), newline=False)
    elif len(documents) == 1:
        show(json.dumps(documents[0], indent=2, ensure_ascii=False))
    else:
        show(json.dumps({"apiVersion": "v1", "kind": "List", "items": documents}, indent=2, ensure_ascii=False))
