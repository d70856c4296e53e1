"""Every reason that the operator sets is in the table from which the docs and doctor's advice are generated."""

import ast
from collections.abc import Iterator
from pathlib import Path

from agent_operator.api.reasons import REASONS
from testbed.paths import REPOSITORY

CONTROLLER = REPOSITORY / "operator" / "agent_operator" / "controller"
# The position of the reason among the arguments.
BUILDERS = {"Judgement": 1, "Problem": 0}


def reasons_in(path: Path) -> Iterator[str]:
    """Yield the constant reasons that a file passes to conditions and problems."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in BUILDERS:
            reason = node.args[BUILDERS[node.func.id]] if len(node.args) > BUILDERS[node.func.id] else None
            if isinstance(reason, ast.Constant):
                yield str(reason.value)


def test_every_reason_in_the_code_is_documented() -> None:
    found = {reason for path in CONTROLLER.rglob("*.py") for reason in reasons_in(path)}

    assert len(found) > 10
    assert found - REASONS.keys() == set()


def test_texts_are_sentences_and_advice_is_a_clause() -> None:
    for reason in REASONS.values():
        assert reason.meaning.endswith((".", ".)")), reason.name
        assert not reason.advice.endswith("."), reason.name
        assert not reason.details or reason.details.endswith("."), reason.name
