"""All desired objects of an agent."""

from agent_operator.api.agent import AgentDeployment
from agent_operator.manifests.client_keys import client_keys
from agent_operator.manifests.config_map import config_map
from agent_operator.manifests.deployment import deployment, worker_deployment
from agent_operator.manifests.document import Document
from agent_operator.manifests.horizontal_pod_autoscaler import horizontal_pod_autoscaler, worker_autoscaler
from agent_operator.manifests.http_route import http_route
from agent_operator.manifests.ingress import ingress
from agent_operator.manifests.jwt_file import jwt_config_map
from agent_operator.manifests.network_policy import network_policy
from agent_operator.manifests.pod_disruption_budget import pod_disruption_budget, worker_disruption_budget
from agent_operator.manifests.scaled_object import scaled_object, worker_scaled_object
from agent_operator.manifests.secret import secret
from agent_operator.manifests.service import service, worker_service
from agent_operator.manifests.service_account import service_account
from agent_operator.manifests.service_monitor import service_monitor
from agent_operator.manifests.tools_file import tools_config_map

BUILDERS = (
    config_map,
    tools_config_map,
    jwt_config_map,
    secret,
    client_keys,
    service_account,
    service,
    worker_service,
    network_policy,
    deployment,
    worker_deployment,
    horizontal_pod_autoscaler,
    worker_autoscaler,
    scaled_object,
    worker_scaled_object,
    pod_disruption_budget,
    worker_disruption_budget,
    ingress,
    http_route,
    service_monitor,
)


def desired(agent: AgentDeployment) -> list[Document]:
    """Return the desired objects of an agent.

    They are in the order in which they are applied: objects that the pods need come before the pods. The Secret of
    generated client keys has no keys: they are not part of the spec.
    """
    objects = (build(agent) for build in BUILDERS)
    return [document for document in objects if document is not None]
