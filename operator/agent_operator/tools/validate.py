"""`agent-operator validate`: every fault of the agents in files, and warnings. Needs no cluster."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Literal, TextIO

from agent_operator.api.agent import AgentDeployment
from agent_operator.api.agent_class import InvalidClassError, parse_class
from agent_operator.api.validation import Fault, InvalidAgentError, parse
from agent_operator.classes.bounds import faults_of_defaults
from agent_operator.classes.choice import Classes, apply_class
from agent_operator.policy.refusals import refusals as refused_by_policy
from agent_operator.policy.settings import Policy
from agent_operator.tools.classes import NOT_GIVEN, faults_of
from agent_operator.tools.documents import Found, read_agents
from agent_operator.tools.lint import advice, refusals
from agent_operator.tools.metadata import metadata_faults

Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class Remark:
    """A fault or a warning about one field of one object of one file.

    `object` and `field` are empty if the fault is in the file itself.
    """

    severity: Severity
    file: str
    object: str
    field: str
    message: str

    def __str__(self) -> str:
        return ": ".join(part for part in (self.file, self.object, self.field, self.message) if part)


@dataclass(frozen=True)
class Verdict:
    """All remarks about the sources, in their order, and the number of valid objects."""

    valid: int
    remarks: list[Remark]

    @property
    def errors(self) -> list[Remark]:
        """The remarks that make the input invalid."""
        return [remark for remark in self.remarks if remark.severity == "error"]

    @property
    def warnings(self) -> list[Remark]:
        """The remarks about what is valid but inadvisable."""
        return [remark for remark in self.remarks if remark.severity == "warning"]

    def to_json(self) -> str:
        """Return the verdict as JSON: `{valid, errors, warnings}`, the last two as lists of remarks."""
        document = {
            "valid": self.valid,
            "errors": [asdict(remark) for remark in self.errors],
            "warnings": [asdict(remark) for remark in self.warnings],
        }
        return json.dumps(document, indent=2, ensure_ascii=False)


def validate(
    sources: Sequence[str],
    stdin: TextIO,
    *,
    namespace: str = "default",
    policy: Policy | None = None,
    classes: Classes | None = None,
) -> Verdict:
    """Check every `AgentDeployment` and `AgentClass` in these files and folders, or on `stdin` for "-".

    Never raises for bad input. `namespace` applies to agents without one. `policy` is the operator's policy, by which
    it refuses specs, and `classes` are those that agents may have.
    """
    found, unreadable = read_agents(sources, stdin, classes=True)
    remarks = [_of_file(line) for line in unreadable]
    agents: list[tuple[AgentDeployment, Found]] = []
    valid = 0
    for each in found:
        remarks += [
            Remark("warning", each.file, each.title, field, "duplicate field, the last one is used: remove the other")
            for field in each.repeated
        ]
        if each.is_class:
            faults, advised = _of_class(each)
            remarks += [Remark("error", each.file, each.title, fault.field, fault.message) for fault in faults]
            valid += not faults
            remarks += [Remark("warning", each.file, each.title, fault.field, fault.message) for fault in advised]
            continue
        faults = list(metadata_faults(each.document))
        try:
            agent = parse(each.document, namespace=namespace)
        except InvalidAgentError as error:
            faults += error.faults
            remarks += [Remark("error", each.file, each.title, fault.field, fault.message) for fault in faults]
            continue
        if policy is not None:
            faults += refused_by_policy(agent.spec, policy)
        if classes is None and agent.spec.class_name is not None:
            remarks.append(Remark("warning", each.file, each.title, "spec.className", NOT_GIVEN))
        if classes is not None:
            with_class = apply_class(agent, classes)
            faults += faults_of(with_class.refusal) if with_class.refusal is not None else []
            agent = with_class.agent
        faults += refusals(agent.spec)
        errors = [Remark("error", each.file, each.title, fault.field, fault.message) for fault in faults]
        remarks += errors
        remarks += [
            Remark("warning", each.file, each.title, fault.field, fault.message) for fault in advice(agent.spec)
        ]
        valid += not errors
        agents.append((agent, each))
    return Verdict(valid, [*remarks, *_twice(agents)])


def _of_class(found: Found) -> tuple[list[Fault], list[Fault]]:
    """Return the faults of a class, and what is inadvisable in a valid one."""
    try:
        given = parse_class(found.document)
    except InvalidClassError as error:
        return error.faults, []
    return [], [
        Fault(
            fault.field.replace("spec.", "spec.defaults.", 1),
            f"{fault.message}: the class refuses each agent that has this default",
        )
        for fault in faults_of_defaults(given.spec)
    ]


def _of_file(line: str) -> Remark:
    file, _, message = line.partition(": ")
    return Remark("error", file, "", "", message)


def _twice(agents: Iterable[tuple[AgentDeployment, Found]]) -> Iterator[Remark]:
    first: dict[tuple[str, str], Found] = {}
    for agent, found in agents:
        other = first.setdefault((agent.namespace, agent.name), found)
        if other is not found:
            message = f"is also in {other.file}, in the same namespace, but only one of the two can exist"
            yield Remark("warning", found.file, found.title, "metadata.name", message)
