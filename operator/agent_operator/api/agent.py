"""An `AgentDeployment`: its identity as an API object, and its name."""

import re
from dataclasses import dataclass

from agent_operator.api.rules import Rule
from agent_operator.api.spec import AgentSpec

GROUP = "portside.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
KIND = "AgentDeployment"
PLURAL = "agentdeployments"

# A Service's name is a DNS-1035 label of at most 63 characters (RFC 1035). Ten are reserved for the suffixes of an
# agent's other objects. 53 is also the longest release name that Helm accepts, so that any agent can be an
# AgentDeployment or a release.
MAX_NAME = 53
NAME = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"
_NAME = re.compile(NAME.removesuffix("$") + r"\Z")

NAME_RULE = Rule(
    cel=f"self.metadata.name.size() <= {MAX_NAME} && self.metadata.name.matches('{NAME}')",
    message=f"metadata.name must be at most {MAX_NAME} lower-case letters, digits and '-', begin with a letter and end "
    "with a letter or digit, because it becomes the name of the Service: choose another name",
    holds=lambda name: len(name) <= MAX_NAME and _NAME.match(name) is not None,
)


@dataclass(frozen=True)
class AgentDeployment:
    """A valid agent: its identity and its desired state; `class_name` is the class whose defaults the spec has."""

    name: str
    namespace: str
    spec: AgentSpec
    uid: str = ""
    generation: int = 0
    class_name: str | None = None
