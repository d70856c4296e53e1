"""An agent of the cluster, by its name."""

from agent_operator.api.agent import KIND, AgentDeployment
from agent_operator.api.validation import InvalidAgentError, parse
from agent_operator.kube.resources import AGENT
from agent_operator.manifests.document import Document
from agent_operator.tools.cluster import Access
from agent_operator.tools.errors import InputError, ToolError


async def live_agent(cluster: Access, name: str) -> tuple[AgentDeployment, Document]:
    """Return the agent, and its object as stored. Raises ToolError if it does not exist, InputError if it has faults.

    Also raises ApiError and UnreachableError.
    """
    document = await cluster.get(AGENT, cluster.namespace, name)
    if document is None:
        raise ToolError(
            f"{KIND} {name} not found in namespace {cluster.namespace}: specify another name, or --namespace."
        )
    try:
        return parse(document), document
    except InvalidAgentError as error:
        raise InputError(*(f"{KIND} {name}: {fault}" for fault in error.faults)) from error
