"""The classes of a file that the tools apply, and their faults."""

from pathlib import Path

from agent_operator.api.agent_class import CLASS_KIND
from agent_operator.api.validation import Fault
from agent_operator.classes.choice import Classes, Refusal
from agent_operator.classes.load import ClassError, load_classes
from agent_operator.tools.errors import ToolError

NOT_GIVEN = f"names an {CLASS_KIND}: specify a file that contains it with --class"


def from_file(path: Path | None) -> Classes | None:
    """Return the classes of a file or folder, None without one. Raises ToolError."""
    try:
        return load_classes(path) if path is not None else None
    except ClassError as error:
        raise ToolError(str(error)) from error


def faults_of(refusal: Refusal) -> list[Fault]:
    """Return the faults of the spec for which a class refuses it."""
    return list(refusal.faults) or [Fault("spec.className", refusal.sentence)]
