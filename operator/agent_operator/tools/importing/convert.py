"""AgentDeployments from a list of objects: each Deployment and each Agent of kagent, with what belongs to it."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TextIO

from agent_operator.api.agent import GROUP
from agent_operator.api.validation import without_nulls
from agent_operator.manifests.document import Document
from agent_operator.tools.documents import read_objects
from agent_operator.tools.errors import InputError
from agent_operator.tools.importing.belongings import KAGENT, Belongings, group_of, name_of
from agent_operator.tools.importing.deployment import Choices, convert_deployment
from agent_operator.tools.importing.draft import Note
from agent_operator.tools.importing.fit import fitted
from agent_operator.tools.importing.kagent import convert_agent
from agent_operator.tools.importing.network import title

DEPLOYMENT = "Deployment"
AGENT = "Agent"
KINDS = (DEPLOYMENT, AGENT)

_WORKLOADS = "only Deployments and Agents of kagent are converted: write it as a Deployment, and import that"
_STAYS = "it stays as it is, and is referred to by its name"
_REMAINING = {
    "StatefulSet": f"{_WORKLOADS}; the pods of an agent have no storage of their own",
    "DaemonSet": _WORKLOADS,
    "Job": "send the work to the agent's /tasks instead",
    "CronJob": "keep it, and let it call the agent's /tasks",
    "SandboxAgent": "agents in sandboxes are not converted",
    "AgentHarness": "agents in sandboxes are not converted",
    "ConfigMap": _STAYS,
    "Secret": _STAYS,
    "ServiceAccount": _STAYS,
    "PersistentVolumeClaim": _STAYS,
    "NetworkPolicy": "an agent has its own: move the rules to networkPolicy.ingressFrom and networkPolicy.extraEgress",
    "HTTPRoute": "an agent has its own: set httpRoute",
    "ScaledObject": "an agent has its own: set autoscaling with engine keda",
    "ServiceMonitor": "an agent has its own: set monitoring.serviceMonitor",
    "Role": "the pods of an agent have no token for the Kubernetes API",
    "RoleBinding": "the pods of an agent have no token for the Kubernetes API",
}


@dataclass(frozen=True)
class Imported:
    """A converted workload: how messages call it, the AgentDeployment, and what is to be reported about it."""

    title: str
    document: Document
    notes: Sequence[Note]


def import_files(
    sources: Sequence[str], stdin: TextIO, choices: Choices, kind: str | None
) -> tuple[list[Imported], list[str]]:
    """Return the converted workloads of these files, and a line for each object that belongs to none.

    Raises InputError with the faults of all files and objects.
    """
    found, faults = read_objects(sources, stdin)
    documents = [without_nulls(each.document) for each in found]
    workloads = [each for each in documents if is_workload(each) and kind in (None, each["kind"])]
    if not workloads and not faults:
        named = kind or "Deployment or kagent Agent"
        faults = [f"{', '.join(sources)}: no {named} found: specify a file, a folder or - that contains one"]
    if choices.name is not None and len(workloads) > 1:
        faults.append(f"--name is for one workload, and the files contain {len(workloads)}: import them one by one")
    if faults:
        raise InputError(*faults)
    around = Belongings(documents)
    return convert_all(workloads, around, choices), list(_remaining(documents, workloads, around))


def convert_all(workloads: Iterable[Document], around: Belongings, choices: Choices) -> list[Imported]:
    """Return the AgentDeployments of these workloads. Raises InputError with the faults of all."""
    converted: list[Imported] = []
    faults: list[str] = []
    for each in workloads:
        convert = convert_deployment if each["kind"] == DEPLOYMENT else convert_agent
        try:
            draft = convert(each, around, choices)
            converted.append(Imported(draft.title, fitted(draft), draft.notes))
        except InputError as error:
            faults += error.lines
    if faults:
        raise InputError(*faults)
    return converted


def is_workload(document: Document) -> bool:
    """Return whether the object is converted by itself."""
    if not name_of(document):
        return False
    return (document.get("kind"), group_of(document)) in ((DEPLOYMENT, "apps"), (AGENT, KAGENT))


def _remaining(documents: Sequence[Document], workloads: Sequence[Document], around: Belongings) -> Iterator[str]:
    converted = {id(each) for each in workloads} | around.used
    for each in documents:
        if id(each) not in converted and group_of(each) != GROUP and each.get("kind"):
            advice = _REMAINING.get(str(each["kind"]), "it belongs to no Deployment or Agent of the files")
            yield f"{title(each)}: {advice}"
