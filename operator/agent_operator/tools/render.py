"""`agent-operator render`: the objects of agents in files, without a cluster."""

from collections.abc import Sequence
from typing import TextIO

from agent_operator.api.agent import AgentDeployment
from agent_operator.api.validation import InvalidAgentError, parse
from agent_operator.manifests import desired
from agent_operator.manifests.client_keys import is_client_keys, new_key, with_key
from agent_operator.manifests.document import Document
from agent_operator.tools.documents import Found, read_agents
from agent_operator.tools.errors import InputError


def render(sources: Sequence[str], stdin: TextIO, *, namespace: str) -> list[Document]:
    """Return the objects of every `AgentDeployment` in these files and folders, or on `stdin` for "-".

    `namespace` applies to agents without one. Client keys that the operator would generate are new in each call.
    Raises InputError with all faults of all files.
    """
    agents = valid_agents(sources, stdin, namespace=namespace)
    references = [line for agent, found in agents for line in _references(agent, found)]
    if references:
        raise InputError(*references)
    return [document for agent, _ in agents for document in _objects(agent)]


def _objects(agent: AgentDeployment) -> list[Document]:
    return [
        with_key(document, new_key()) if is_client_keys(document, agent.name) else document
        for document in desired(agent)
    ]


def _references(agent: AgentDeployment, found: Found) -> list[str]:
    """Return a sentence for each reference to a server, whose address only the cluster has."""
    return [
        f"{found.file}: {found.title}: spec.tools[{index}].mcp.serverRef: only the cluster has the address of the "
        "server: compare with `agent-operator diff`, or write mcp.url"
        for index, tool in enumerate(agent.spec.tools or [])
        if tool.mcp is not None and tool.mcp.server_ref is not None
    ]


def valid_agents(sources: Sequence[str], stdin: TextIO, *, namespace: str) -> list[tuple[AgentDeployment, Found]]:
    """Return every `AgentDeployment` of the sources with its source document. Raises InputError with all faults."""
    found, faults = read_agents(sources, stdin)
    agents: list[tuple[AgentDeployment, Found]] = []
    for each in found:
        try:
            agents.append((parse(each.document, namespace=namespace), each))
        except InvalidAgentError as error:
            faults += [f"{each.file}: {each.title}: {fault}" for fault in error.faults]
    if faults:
        raise InputError(*faults)
    return agents
