"""An agent as the owner of its objects (Kubernetes: "Owners and Dependents")."""

from dataclasses import dataclass

from agent_operator.api.agent import API_VERSION, KIND
from agent_operator.kube.cache import controller_of
from agent_operator.manifests.document import Document


@dataclass(frozen=True)
class Owner:
    """The agent as the owner of its objects."""

    name: str
    uid: str

    def reference(self) -> Document:
        """Return the owner reference, by which the garbage collector removes the object with its agent."""
        return {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "name": self.name,
            "uid": self.uid,
            "controller": True,
            "blockOwnerDeletion": True,
        }

    def owns(self, document: Document) -> bool:
        """Return whether this agent, identified by its uid, is the object's controller."""
        controller = controller_of(document)
        return controller is not None and controller.get("uid") == self.uid
