"""The class of an agent, and what the agent is with it. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from agent_operator.api.agent import AgentDeployment
from agent_operator.api.agent_class import (
    CLASS_KIND,
    DEFAULT_CLASS,
    AgentClass,
    InvalidClassError,
    is_default,
    parse_class,
)
from agent_operator.api.validation import Fault, InvalidAgentError
from agent_operator.classes.bounds import of_class, violations
from agent_operator.classes.defaults import Origin, with_class
from agent_operator.policy.fields import matches

NOT_FOUND = "ClassNotFound"
AMBIGUOUS = "ClassAmbiguous"
INVALID = "ClassInvalid"
REFUSED = "ClassRefused"
INVALID_SPEC = "InvalidSpec"
OF_CLASS = (NOT_FOUND, AMBIGUOUS, INVALID, REFUSED)

NOT_FOR_NAMESPACE = "the class is not for agents of this namespace (namespaces)"


@dataclass(frozen=True)
class Classes:
    """All classes: the valid ones by name, the faults of the others, and which of these are a default."""

    valid: Mapping[str, AgentClass] = field(default_factory=dict)
    faults: Mapping[str, list[Fault]] = field(default_factory=dict)
    invalid_defaults: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Refusal:
    """Why an agent is not applied: the reason of conditions, a sentence, and the faults of fields."""

    reason: str
    sentence: str
    faults: tuple[Fault, ...] = ()

    def __str__(self) -> str:
        return ": ".join([self.sentence, "; ".join(map(str, self.faults))]) if self.faults else self.sentence


@dataclass(frozen=True)
class Applied:
    """An agent with its class: its name, and where each value of the spec comes from; without one the agent as it is.

    With a refusal the agent is as it was before.
    """

    agent: AgentDeployment
    name: str | None = None
    origins: Mapping[str, Origin] = field(default_factory=dict)
    refusal: Refusal | None = None


def classes_of(documents: Iterable[Mapping[str, Any]]) -> Classes:
    """Return the classes of these objects of the API server."""
    valid: dict[str, AgentClass] = {}
    faults: dict[str, list[Fault]] = {}
    invalid_defaults = set()
    for document in documents:
        try:
            found = parse_class(document)
        except InvalidClassError as error:
            metadata = document["metadata"]
            faults[metadata["name"]] = error.faults
            if is_default(metadata):
                invalid_defaults.add(metadata["name"])
        else:
            valid[found.name] = found
    return Classes(valid, faults, frozenset(invalid_defaults))


def apply_class(agent: AgentDeployment, classes: Classes) -> Applied:
    """Return the agent with the defaults of its class, or why the class refuses it."""
    chosen = _chosen(agent, classes)
    if chosen is None:
        return Applied(agent)
    if isinstance(chosen, Refusal):
        return Applied(agent, agent.spec.class_name if chosen.reason == INVALID else None, refusal=chosen)
    title = f"{CLASS_KIND} {chosen.name}"
    if not _is_for(chosen, agent.namespace):
        fault = Fault("spec.className", NOT_FOR_NAMESPACE)
        return Applied(agent, chosen.name, refusal=Refusal(REFUSED, f"{title} refuses the agent", (fault,)))
    try:
        effective = with_class(agent.spec, chosen.spec)
    except InvalidAgentError as error:
        sentence = f"With the defaults of {title} the spec is not valid"
        return Applied(agent, chosen.name, refusal=Refusal(INVALID_SPEC, sentence, tuple(error.faults)))
    faults = violations(effective.spec, chosen.spec)
    if faults:
        taken = [path for path, origin in effective.origins.items() if origin == "class"]
        own = ", ".join(fault.field for fault in of_class(faults, taken))
        why = f", as its own defaults are beyond its bounds ({own})" if own else ""
        refusal = Refusal(REFUSED, f"{title} refuses the spec{why}", tuple(faults))
        return Applied(agent, chosen.name, effective.origins, refusal)
    agent = replace(agent, spec=effective.spec, class_name=chosen.name)
    return Applied(agent, chosen.name, effective.origins)


def _chosen(agent: AgentDeployment, classes: Classes) -> AgentClass | Refusal | None:
    name = agent.spec.class_name
    if name is not None:
        if name in classes.faults:
            return _invalid(name, classes)
        return classes.valid.get(name) or Refusal(
            NOT_FOUND,
            f"There is no {CLASS_KIND} {name}",
            (Fault("spec.className", "create the class, or correct the name"),),
        )
    if classes.invalid_defaults:
        return _invalid(min(classes.invalid_defaults), classes)
    default = [each for each in classes.valid.values() if each.default and _is_for(each, agent.namespace)]
    if len(default) > 1:
        names = ", ".join(sorted(each.name for each in default))
        return Refusal(
            AMBIGUOUS,
            f"Several classes are the default ({names})",
            (Fault("spec.className", f"name one, or remove the annotation {DEFAULT_CLASS} from all but one"),),
        )
    return default[0] if default else None


def _invalid(name: str, classes: Classes) -> Refusal:
    return Refusal(INVALID, f"{CLASS_KIND} {name} is not valid", tuple(classes.faults[name]))


def _is_for(chosen: AgentClass, namespace: str) -> bool:
    return chosen.spec.namespaces is None or matches(namespace, chosen.spec.namespaces)
