"""The report of the doctor: findings, ordered by cause, and the chain of steps that was checked."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Literal

State = Literal["ok", "wrong", "unknown", "waits"]
"""`waits` means that the step cannot succeed before an earlier one does."""

STEPS = ("definition", "operator", "spec", "objects", "pods", "service", "scaling", "tools")


@dataclass(frozen=True)
class Finding:
    """One problem: its step in the chain, a machine-readable reason, a human-readable message, and what to do.

    A `note` is informational: it does not keep the agent from being ready.
    """

    step: str
    reason: str
    message: str
    remedy: str
    note: bool = False


@dataclass(frozen=True)
class Step:
    """The state of one step of the chain, with a message."""

    name: str
    state: State
    message: str


@dataclass(frozen=True)
class Report:
    """The report on one agent. The first finding that is not a note is the cause of the agent not being ready."""

    namespace: str
    name: str
    ready: bool
    steps: list[Step]
    findings: list[Finding]
    unseen: dict[str, str]

    @property
    def cause(self) -> Finding | None:
        """The finding that explains why the agent is not ready; None if it is ready."""
        return None if self.ready else next((each for each in self.findings if not each.note), None)


def to_text(report: Report, *, whole: bool = True) -> str:
    """Return the report as text for users; without `whole`, a ready agent takes one line."""
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
    """Return the message with exactly one full stop, even if it ends with quoted text."""
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
        yield from ("", "Could not be read, so there may be other problems:")
    for topic, why in sorted(report.unseen.items()):
        yield f"  {topic}: {why}"


def to_json(reports: list[Report]) -> str:
    """Return the reports as a JSON list: name, namespace, ready, cause, steps, findings and unseen of each."""
    documents = [{**asdict(each), "cause": asdict(each.cause) if each.cause else None} for each in reports]
    return json.dumps(documents, indent=2, ensure_ascii=False)
