"""Objects that an agent needs but does not own: why it cannot have them, and what to do. Pure."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from agent_operator.api.agent import KIND, MAX_NAME
from agent_operator.controller.reconcile.adoption import ADOPT, CONSENT, consents_to, is_adoptable
from agent_operator.kube.cache import controller_of
from agent_operator.manifests.document import Document

# `foreign`: the agent can never adopt the object. `former`: it will be removed with a deleted agent of the same name.
# In the remaining cases it can be adopted: its owner has yet to consent (`unconsented`), consented to another agent
# (`promised`) or to this one (`consented`).
Why = Literal["foreign", "former", "unconsented", "promised", "consented"]


@dataclass(frozen=True)
class Conflict:
    """An object with a name that the agent needs but does not own. `to` is the agent that its owner consented to."""

    kind: str
    name: str
    why: Why
    to: str = ""

    @property
    def title(self) -> str:
        """The object's kind and name, for messages."""
        return f"{self.kind} {self.name}"

    @property
    def argument(self) -> str:
        """The object as an argument of kubectl."""
        return f"{self.kind.lower()}/{self.name}"


def conflict_of(found: Document, kind: str, name: str, agent: str) -> Conflict:
    """Return the conflict between an object and the agent of this name, which does not own it."""
    controller = controller_of(found)
    if controller is not None and controller.get("kind") == KIND:
        return Conflict(kind, name, "former")
    if not is_adoptable(found, agent):
        return Conflict(kind, name, "foreign")
    to = consents_to(found)
    if to is None:
        return Conflict(kind, name, "unconsented")
    return Conflict(kind, name, "consented" if to == agent else "promised", to[:MAX_NAME])


def described(conflicts: Sequence[Conflict], namespace: str, agent: str, *, adopt: bool) -> list[str]:
    """Describe the conflicts for the user, with the commands that resolve them.

    A sentence may cover several conflicts. `adopt` is whether the agent already requests adoption.
    """
    return [*_described(conflicts, f"kubectl annotate --namespace {namespace}", agent, adopt=adopt)]


def _described(conflicts: Sequence[Conflict], annotate: str, agent: str, *, adopt: bool) -> Iterator[str]:
    for each in conflicts:
        if each.why == "former":
            yield f"{each.title} belongs to a deleted {KIND} of the same name, and is being removed"
        elif each.why == "foreign":
            yield f"{each.title} exists and is not managed by this {KIND}: rename one of the two, or delete it"
        elif each.why == "promised":
            yield (
                f"{each.title} may be taken over only by {KIND} {each.to}, according to its annotation {CONSENT}: "
                f"rename this {KIND}, or have the owner of the object consent with "
                f"`{annotate} --overwrite {each.argument} {CONSENT}={agent}`"
            )
    request = f"`{annotate} agentdeployment/{agent} {ADOPT}=true`"
    lacking = [each for each in conflicts if each.why == "unconsented"]
    if lacking:
        arguments = " ".join(each.argument for each in lacking)
        yield (
            f"{_titles(lacking)} of a Helm release or a deleted {KIND} of the same name cannot be taken over without "
            f"the consent of their owner: `{annotate} {arguments} {CONSENT}={agent}`"
            f"{'' if adopt else f', and then {request}'}. Or delete them, or rename this {KIND}"
        )
    ready = [each for each in conflicts if each.why == "consented"]
    if ready and not adopt and not lacking:
        yield f"{_titles(ready)} can be taken over: request it with {request}. Or delete them, or rename this {KIND}"


def _titles(conflicts: Iterable[Conflict]) -> str:
    return ", ".join(each.title for each in conflicts)
