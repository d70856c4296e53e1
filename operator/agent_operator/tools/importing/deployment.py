"""An AgentDeployment from a plain Deployment and the objects that belong to it."""

from dataclasses import dataclass
from typing import Any

from agent_operator.manifests.document import Document
from agent_operator.tools.errors import InputError
from agent_operator.tools.importing.belongings import Belongings, metadata_of, name_of
from agent_operator.tools.importing.container import Main, convert_runtime
from agent_operator.tools.importing.draft import Draft, object_of, objects_of, text_of
from agent_operator.tools.importing.network import convert_ingress, convert_service, port_of, title
from agent_operator.tools.importing.pods import convert_labels, convert_others, convert_pod, convert_volumes
from agent_operator.tools.importing.scaling import convert_autoscaler, convert_budget, convert_rollout
from agent_operator.tools.importing.selectors import selecting_labels

DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"
# The API of a plain Deployment is its own.
PROTOCOL = "http"
_CONVERTED = {"replicas", "selector", "template", "strategy"}
_DEFAULTS = {"revisionHistoryLimit": 10, "progressDeadlineSeconds": 600}
_TEMPLATE = "spec.template"
_POD = f"{_TEMPLATE}.spec"


@dataclass(frozen=True)
class Choices:
    """What the user chose: the name of the result, the main container, and how the runtime is called,
    where that is not to be derived from the source."""

    name: str | None = None
    container: str | None = None
    protocol: str | None = None


def convert_deployment(document: Document, around: Belongings, choices: Choices) -> Draft:
    """Return the draft of an agent that runs what the Deployment runs. Raises InputError if that is not possible."""
    metadata, spec = metadata_of(document), object_of(document.get("spec"))
    draft = Draft(
        title=title(document),
        name=choices.name or name_of(document),
        namespace=text_of(metadata.get("namespace")) or None,
    )
    template = object_of(spec.get("template"))
    labels = object_of(object_of(template.get("metadata")).get("labels"))
    pod = object_of(template.get("spec"))
    services = around.services(draft.namespace, labels)
    container = _main(document, objects_of(pod.get("containers")), services, choices)
    ports = [port for each in services if (port := port_of(each, container)[0]) is not None]
    main = Main(
        container,
        f"{_POD}.containers[{container.get('name')}]",
        choices.protocol or PROTOCOL,
        next(iter(ports), None),
    )
    convert_runtime(draft, main, object_of(pod.get("securityContext")))
    others = [each for each in objects_of(pod.get("containers")) if each is not container]
    convert_others(draft, others, "sidecars", f"{_POD}.containers")
    convert_others(draft, pod.get("initContainers"), "initContainers", f"{_POD}.initContainers")
    convert_volumes(draft, pod.get("volumes"), f"{_POD}.volumes")
    convert_pod(draft, pod, _POD)
    budgets = around.budgets(draft.namespace, labels)
    selecting = selecting_labels(document, *services, *budgets)
    convert_labels(draft, object_of(template.get("metadata")), f"{_TEMPLATE}.metadata", selecting)
    _workload(draft, spec)
    _network(draft, services, container, around)
    convert_autoscaler(draft, around.autoscalers(draft.namespace, "Deployment", name_of(document)))
    convert_budget(draft, budgets)
    _closing(draft, document)
    return draft


def _main(
    document: Document, containers: list[dict[str, Any]], services: list[Document], choices: Choices
) -> dict[str, Any]:
    """Return the container that becomes the runtime: the chosen, the only, or the one behind the Service."""
    names = [text_of(each.get("name")) for each in containers]
    if not containers:
        raise InputError(f"{title(document)}: cannot be converted: it has no containers")
    if choices.container is not None and choices.container in names:
        return containers[names.index(choices.container)]
    if choices.container is not None and len(containers) > 1:
        raise InputError(f"{title(document)}: no container {choices.container}: choose one of {', '.join(names)}")
    if len(containers) == 1:
        return containers[0]
    template = object_of(object_of(document.get("spec")).get("template"))
    annotated = object_of(object_of(template.get("metadata")).get("annotations")).get(DEFAULT_CONTAINER)
    behind = [
        each
        for each in containers
        if objects_of(each.get("ports")) and any(port_of(service, each)[0] is not None for service in services)
    ]
    if len(behind) == 1:
        return behind[0]
    if annotated in names:
        return containers[names.index(annotated)]
    raise InputError(f"{title(document)}: which container is the agent? Choose with --container: {', '.join(names)}")


def _workload(draft: Draft, spec: dict[str, Any]) -> None:
    draft.put("replicas", spec.get("replicas"), "spec.replicas")
    convert_rollout(draft, object_of(spec.get("strategy")), "spec.strategy")
    for field, value in spec.items():
        if field not in _CONVERTED and value not in (None, {}, [], False, 0) and _DEFAULTS.get(field) != value:
            draft.lost(f"spec.{field}", "an AgentDeployment has no such field: Portside chooses a value")


def _network(draft: Draft, services: list[Document], container: dict[str, Any], around: Belongings) -> None:
    """Convert the Services of the Deployment and the Ingresses in front of them."""
    service = next((each for each in services if port_of(each, container)[0] is not None), None)
    if service is not None:
        convert_service(draft, service, container)
    for each in services:
        if each is not service:
            draft.lost(title(each), "an agent has one Service: keep this one, and select the agent's pods by it")
    names = {name_of(each) for each in services}
    convert_ingress(draft, around.ingresses(draft.namespace, names), names)


def _closing(draft: Draft, document: Document) -> None:
    if draft.name == name_of(document):
        draft.note(
            "metadata.name",
            f"the operator creates a Deployment {draft.name} and replaces no other: delete the old one first, or "
            "import under another name with --name and move the clients afterwards",
        )
    if "agent" not in draft.spec or "model" not in draft.spec["agent"]:
        draft.note(
            f"{_POD}.containers",
            "the gateway accepts calls of agent.model, by default claude-sonnet-5-5: set it to the model that the "
            "program calls, and agent.models to further ones",
        )
    draft.note(
        _POD,
        "the NetworkPolicy of an agent allows egress to DNS and to the port of the model API only: add what the "
        "program calls to networkPolicy.extraEgress, or set networkPolicy.enabled to false",
    )
    draft.note(_POD, "a client may send 100 requests a minute: set rateLimit.requestsPerMinute to change that")
