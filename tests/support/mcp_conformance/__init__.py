"""The conformance suite of MCP against a server, and what of it cannot apply to the agent's."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from support.npm import node, packages

_HERE = Path(__file__).parent
_MINUTE = 60

# The newest revision has a list of required scenarios; of an older one, all scenarios are run.
RUNS = {
    "2026-07-28": ("--requirements", "2026-07-28"),
    "2025-11-25": ("--suite", "all", "--spec-version", "2025-11-25"),
}


@dataclass(frozen=True)
class Outcome:
    """The checks of a run, by scenario, and those among them that failed."""

    checks: dict[str, set[str]]
    failed: dict[str, set[str]]


def run_suite(url: str, revision: str, folder: Path) -> Outcome:
    """Run the scenarios of a revision against a server; results are written to a folder."""
    program = packages(_HERE) / "@modelcontextprotocol" / "conformance" / "dist" / "index.js"
    command = [node(), "--import", str(_HERE / "node_20.mjs"), str(program)]
    done = subprocess.run(
        [*command, "server", "--url", url, "--output-dir", str(folder), *RUNS[revision]],
        capture_output=True,
        text=True,
        timeout=3 * _MINUTE,
        check=False,
    )
    outcome = Outcome({}, {})
    for file in folder.glob("*/checks.json"):
        # server-SCENARIO-2026-11-30T12-57-48-598Z
        scenario = file.parent.name.removeprefix("server-").rsplit("-", 6)[0]
        found: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))
        outcome.checks[scenario] = {check["id"] for check in found if check["status"] in {"SUCCESS", "FAILURE"}}
        if failures := {check["id"] for check in found if check["status"] == "FAILURE"}:
            outcome.failed[scenario] = failures
    assert outcome.checks, done.stdout + done.stderr
    return outcome


def unexpected(outcome: Outcome) -> dict[str, set[str]]:
    """Return the failed checks of a run, by scenario, that can apply to the agent's server."""
    scenarios, checks = inapplicable()
    failed = {name: found - checks for name, found in outcome.failed.items() if name not in scenarios}
    return {name: found for name, found in failed.items() if found}


def inapplicable() -> tuple[set[str], set[str]]:
    """Return the scenarios and the checks that cannot apply to the agent's server."""
    groups = yaml.safe_load((_HERE / "inapplicable.yaml").read_text(encoding="utf-8"))
    scenarios = {each for group in groups for each in group.get("scenarios", ())}
    checks = {each for group in groups for each in group.get("checks", ())}
    return scenarios, checks
