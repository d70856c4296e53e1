"""`agent-operator render`: the objects of agents in files, without a cluster."""

from collections.abc import Sequence
from typing import TextIO

from agent_operator.api.agent import AgentDeployment
from agent_operator.api.validation import InvalidAgentError, parse
from agent_operator.classes.choice import Classes, apply_class
from agent_operator.manifests import desired
from agent_operator.manifests.client_keys import is_client_keys, new_key, with_key
from agent_operator.manifests.document import Document
from agent_operator.tools.classes import NOT_GIVEN, faults_of
from agent_operator.tools.documents import Found, read_agents
from agent_operator.tools.errors import InputError


def render(sources: Sequence[str], stdin: TextIO, *, namespace: str, classes: Classes | None = None) -> list[Document]:
    """Return the objects of every `AgentDeployment` in these files and folders, or on `stdin` for "-".

    `namespace` applies to agents without one, and `classes` to those that have one of them. Client keys that the
    operator would generate are new in each call. Raises InputError with all faults of all files.
    """
    agents = _with_classes(valid_agents(sources, stdin, namespace=namespace), classes)
    references = [line for agent, found in agents for line in _references(agent, found)]
    if references:
        raise InputError(*references)
    return [document for agent, _ in agents for document in _objects(agent)]


def _with_classes(
    agents: Sequence[tuple[AgentDeployment, Found]], classes: Classes | None
) -> list[tuple[AgentDeployment, Found]]:
    """Return the agents with their classes. Raises InputError with all that their classes refuse."""
    faults = []
    found = []
    for agent, source in agents:
        if classes is None and agent.spec.class_name is not None:
            faults.append(f"{source.file}: {source.title}: spec.className: {NOT_GIVEN}")
        with_class = apply_class(agent, classes or Classes())
        if classes is not None and with_class.refusal is not None:
            faults += [f"{source.file}: {source.title}: {fault}" for fault in faults_of(with_class.refusal)]
        found.append((with_class.agent, source))
    if faults:
        raise InputError(*faults)
    return found


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
