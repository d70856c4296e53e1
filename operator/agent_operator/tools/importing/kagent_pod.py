"""The deployment block of kagent's agents: pods, scheduling, and the container of a declarative agent."""

from typing import Any

from agent_operator.api.spec import AgentSpec
from agent_operator.tools.importing.draft import Draft, object_of, objects_of
from agent_operator.tools.importing.model_keys import NOT_PRINTED, is_literal_key
from agent_operator.tools.importing.pods import convert_labels, convert_others, convert_pod, convert_volumes

# Fields of the block that a pod has under the same name.
_OF_POD = (
    "nodeSelector",
    "tolerations",
    "affinity",
    "topologySpreadConstraints",
    "imagePullSecrets",
    "serviceAccountName",
)


def convert_shared(draft: Draft, deployment: dict[str, Any], source: str) -> None:
    """Put the settings of the pods into the draft."""
    pod = {key: deployment[key] for key in _OF_POD if key in deployment}
    pod["securityContext"] = object_of(deployment.get("podSecurityContext"))
    convert_pod(draft, pod, source)
    draft.sources["podSecurityContext"] = f"{source}.podSecurityContext"
    convert_labels(draft, deployment, source)
    draft.put("replicas", deployment.get("replicas"), f"{source}.replicas")
    convert_others(draft, deployment.get("extraContainers"), "sidecars", f"{source}.extraContainers")
    convert_volumes(draft, deployment.get("volumes"), f"{source}.volumes")
    account = object_of(deployment.get("serviceAccountConfig"))
    draft.put("serviceAccount.annotations", account.get("annotations"), f"{source}.serviceAccountConfig.annotations")
    if account.get("labels"):
        draft.lost(f"{source}.serviceAccountConfig.labels", "create the ServiceAccount yourself: serviceAccount.name")
    for field in ("deploymentAnnotations", "imageRegistry"):
        if deployment.get(field):
            draft.lost(f"{source}.{field}", "it configured kagent's own Deployment or image: see image.repository")


def convert_built_in(draft: Draft, deployment: dict[str, Any], source: str) -> None:
    """Put the settings of a declarative agent's container into those of the built-in agent's."""
    variables = []
    for each in objects_of(deployment.get("env")):
        if is_literal_key(each):
            message = NOT_PRINTED.format(name=each.get("name"), field="extraEnv[].valueFrom.secretKeyRef")
            draft.lost(f"{source}.env[{each.get('name')}]", message)
        else:
            variables.append(each)
    draft.put("extraEnv", variables, f"{source}.env")
    draft.put("envFrom", deployment.get("envFrom"), f"{source}.envFrom")
    draft.put("extraVolumeMounts", deployment.get("volumeMounts"), f"{source}.volumeMounts")
    draft.put("resources", deployment.get("resources"), f"{source}.resources")
    draft.put("image.pullPolicy", deployment.get("imagePullPolicy"), f"{source}.imagePullPolicy")
    given = object_of(deployment.get("securityContext"))
    if given:
        default = AgentSpec.model_fields["security_context"].default
        draft.put("securityContext", {**default, **given}, f"{source}.securityContext")
