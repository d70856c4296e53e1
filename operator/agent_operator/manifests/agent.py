"""All objects of an agent."""

from agent_operator.api.spec import AgentSpec
from agent_operator.manifests.autoscaler import horizontal_pod_autoscaler
from agent_operator.manifests.configmap import config_map
from agent_operator.manifests.deployment import deployment
from agent_operator.manifests.form import Document
from agent_operator.manifests.labels import OPERATOR
from agent_operator.manifests.secret import secret
from agent_operator.manifests.service import service


def desired(name: str, namespace: str, spec: AgentSpec, *, managed_by: str = OPERATOR) -> list[Document]:
    """The objects that an agent of this name, in this namespace, with this spec is made of.

    In the order in which they are applied: what the pods need comes before the pods. `managed_by` is the value of the
    label app.kubernetes.io/managed-by.
    """
    builders = (config_map, secret, service, deployment, horizontal_pod_autoscaler)
    objects = (build(name, namespace, spec, managed_by) for build in builders)
    return [document for document in objects if document is not None]
