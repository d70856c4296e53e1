"""What the doctor says: findings in the order of cause, and the chain that they were found along."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Literal

State = Literal["ok", "wrong", "unknown", "waits"]
"""`waits` is for what cannot be right before an earlier step is."""

STEPS = ("definition", "operator", "spec", "objects", "pods", "service", "scaling")


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong: where in the chain, a reason for programs, a message for people, and what to do.

    A `note` is worth knowing, and does not keep the agent from being ready.
    """

    step: str
    reason: str
    message: str
    remedy: str
    note: bool = False


@dataclass(frozen=True)
class Step:
    """How one step of the chain fares, in words."""

    name: str
    state: State
    message: str


@dataclass(frozen=True)
class Report:
    """All about one agent. The first finding that is no note is the cause of its not being ready."""

    namespace: str
    name: str
    ready: bool
    steps: list[Step]
    findings: list[Finding]
    unseen: dict[str, str]

    @property
    def cause(self) -> Finding | None:
        """Why the agent is not ready; None when it is."""
        return None if self.ready else next((each for each in self.findings if not each.note), None)


def to_text(report: Report, *, whole: bool = True) -> str:
    """The report for people; not `whole` is one line for an agent that is ready."""
    state = "ready" if report.ready else "not ready"
    lines = [f"Agent {report.name} in namespace {report.namespace} is {state}."]
    if report.ready and not whole:
        return lines[0]
    if report.cause is not None:
        lines += ["", f"Cause ({report.cause.reason}): {_sentence(report.cause)}", f"What to do: {report.cause.remedy}"]
    lines += ["", *(f"  {step.state:<8} {step.name:<11} {step.message}" for step in report.steps)]
    lines += [*_others(report), *_unseen(report)]
    return "\n".join(lines)


def _sentence(finding: Finding) -> str:
    """The message with one full stop, also where it ends with the words of another."""
    message = finding.message.rstrip(" .")
    return message if message.endswith(('."', "!", "?", "…")) else f"{message}."


def _others(report: Report) -> Iterator[str]:
    others = [each for each in report.findings if each is not report.cause]
    if others:
        yield from ("", "Also:" if report.cause else "Worth knowing:")
    for each in others:
        yield f"  {each.reason}: {_sentence(each)} What to do: {each.remedy}"


def _unseen(report: Report) -> Iterator[str]:
    if report.unseen:
        yield from ("", "Not seen, so there may be more to it:")
    for topic, why in sorted(report.unseen.items()):
        yield f"  {topic}: {why}"


def to_json(reports: list[Report]) -> str:
    """The reports for programs: a list with name, namespace, ready, cause, steps, findings and unseen of each."""
    documents = [{**asdict(each), "cause": asdict(each.cause) if each.cause else None} for each in reports]
    return json.dumps(documents, indent=2, ensure_ascii=False)
