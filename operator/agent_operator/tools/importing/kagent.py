"""An AgentDeployment from an Agent of kagent (kagent.dev/v1alpha2), of the types BYO and Declarative."""

from typing import Any

from agent_operator.manifests.document import Document
from agent_operator.tools.errors import InputError
from agent_operator.tools.importing.belongings import Belongings, metadata_of, name_of
from agent_operator.tools.importing.container import Main, convert_runtime
from agent_operator.tools.importing.deployment import Choices
from agent_operator.tools.importing.draft import Draft, object_of, text_of
from agent_operator.tools.importing.kagent_model import convert_model
from agent_operator.tools.importing.kagent_pod import convert_built_in, convert_shared
from agent_operator.tools.importing.kagent_tools import convert_tools
from agent_operator.tools.importing.network import title

VERSION = "kagent.dev/v1alpha2"
# kagent requires BYO agents to serve A2A here (go/api/v1alpha2/agent_types.go, ByoDeploymentSpec.image).
BYO_PORT = 8080
BYO_PROTOCOL = "a2a"

_CARD = "the agent card is generated from agent.description and tools: keep it in an annotation, if programs read it"
_ADVICE = {
    "iconUrl": _CARD,
    "documentationUrl": _CARD,
    "version": _CARD,
    "provider": _CARD,
    "skills": "copy the files into the image of a runtime, or mount them from a volume (extraVolumes)",
    "sandbox": "restrict egress with networkPolicy.extraEgress",
    "allowedNamespaces": "restrict who may call the agent with auth and networkPolicy.ingressFrom",
}
_DECLARATIVE_ADVICE = {
    "a2aConfig": "skills in the agent card are generated from tools; clients use A2A, or /chat",
    "memory": "the agent remembers conversations only: set redis to keep them across pods",
    "context": "Portside shortens long conversations by itself",
    "shareTools": "links to sessions do not exist: clients use the id of a conversation",
    "promptTemplate": "systemMessage is not evaluated as a template: write the resulting text into agent.systemPrompt",
}
_DECLARATIVE = {"systemMessage", "systemMessageFrom", "modelConfig", "tools", "deployment", "runtime", "stream"}


def convert_agent(document: Document, around: Belongings, choices: Choices) -> Draft:
    """Return the draft of an agent that does what kagent's does. Raises InputError if that is not possible."""
    spec = object_of(document.get("spec"))
    draft = Draft(
        title=title(document),
        name=choices.name or name_of(document),
        namespace=text_of(metadata_of(document).get("namespace")) or None,
    )
    if document.get("apiVersion") != VERSION:
        raise InputError(f"{draft.title}: apiVersion: only {VERSION} is converted: read it from the cluster as that")
    kind = spec.get("type") or ("BYO" if spec.get("byo") and not spec.get("declarative") else "Declarative")
    if kind == "BYO":
        _byo(draft, object_of(object_of(spec.get("byo")).get("deployment")), choices)
    elif kind == "Declarative":
        _declarative(draft, object_of(spec.get("declarative")), around)
    else:
        raise InputError(f"{draft.title}: spec.type: should be BYO or Declarative")
    draft.put("agent.description", text_of(spec.get("description")) or None, "spec.description")
    for field, value in spec.items():
        if field not in ("type", "byo", "declarative", "description") and value:
            draft.lost(f"spec.{field}", _ADVICE.get(field, "an AgentDeployment has no such field"))
    _closing(draft, document)
    return draft


def _byo(draft: Draft, deployment: dict[str, Any], choices: Choices) -> None:
    source = "spec.byo.deployment"
    if not text_of(deployment.get("image")):
        raise InputError(f"{draft.title}: {source}.image: is required: set it to the image of the agent")
    command = text_of(deployment.get("cmd"))
    container = {key: deployment[key] for key in _OF_CONTAINER if key in deployment}
    container |= {"command": [command]} if command else {}
    main = Main(container, source, choices.protocol or BYO_PROTOCOL, BYO_PORT)
    pod_security = object_of(deployment.get("podSecurityContext"))
    convert_runtime(draft, main, pod_security)
    draft.sources["runtime.command"] = f"{source}.cmd"
    convert_shared(draft, deployment, source)
    draft.note(
        source,
        "the NetworkPolicy of an agent allows egress to DNS and to the port of the model API only: add what the "
        "program calls, such as kagent's controller, to networkPolicy.extraEgress",
    )


_OF_CONTAINER = (
    "image",
    "imagePullPolicy",
    "args",
    "workingDir",
    "env",
    "envFrom",
    "volumeMounts",
    "resources",
    "securityContext",
)


def _declarative(draft: Draft, declarative: dict[str, Any], around: Belongings) -> None:
    source = "spec.declarative"
    draft.put("agent.systemPrompt", declarative.get("systemMessage"), f"{source}.systemMessage")
    reference = object_of(declarative.get("systemMessageFrom"))
    if reference.get("type") == "ConfigMap":
        key = {"name": reference.get("name"), "key": reference.get("key")}
        draft.put("agent.systemPromptFrom.configMapKeyRef", key, f"{source}.systemMessageFrom")
    elif reference:
        draft.lost(
            f"{source}.systemMessageFrom",
            "instructions come from a ConfigMap: copy them there, and set agent.systemPromptFrom",
        )
    convert_model(draft, text_of(declarative.get("modelConfig")), around)
    convert_tools(draft, declarative.get("tools"), f"{source}.tools", around)
    for field, value in declarative.items():
        if field not in _DECLARATIVE and value:
            draft.lost(f"{source}.{field}", _DECLARATIVE_ADVICE.get(field, "an AgentDeployment has no such field"))
    deployment = object_of(declarative.get("deployment"))
    convert_built_in(draft, deployment, f"{source}.deployment")
    convert_shared(draft, deployment, f"{source}.deployment")


def _closing(draft: Draft, document: Document) -> None:
    if draft.name == name_of(document):
        draft.note(
            "metadata.name",
            f"kagent has a Deployment {draft.name} for this Agent, and the operator replaces none: delete the Agent "
            "first, or import under another name with --name and move the clients afterwards",
        )
    draft.note(
        "metadata.name",
        f"clients call the agent itself at http://{draft.name}, not through kagent's controller; its sessions are not "
        "moved",
    )
