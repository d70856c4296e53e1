"""Checkov, in its own Python environment: its hundred packages, with tight bounds, stay out of ours.

A finding that we accept is listed with its reason in `accepted.yaml`; an entry there that no longer matches a
finding is itself a finding.
"""

import json
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from testbed import paths
from testbed.console import step
from testbed.errors import TestbedError

LOCK = Path(__file__).with_name("checkov.txt")
ACCEPTED = Path(__file__).with_name("accepted.yaml")
FRAMEWORKS = ("kubernetes", "dockerfile", "github_actions")
# Send requests neither to its service nor to GitHub.
_OFFLINE = ("--skip-download", "--skip-results-upload")
_SECONDS = 300


@dataclass(frozen=True)
class Finding:
    """A check that an object failed."""

    check: str
    title: str
    resource: str
    file: str

    def __str__(self) -> str:
        return f"{self.check} {self.title}: {self.resource} ({self.file})"


def scan(folder: Path) -> list[Finding]:
    """Return all findings of Checkov in a folder. Raises TestbedError if it finds nothing to read there."""
    command = [str(_program()), "--directory", str(folder), "--output", "json", "--quiet", "--compact", *_OFFLINE]
    done = subprocess.run(
        [*command, "--framework", *FRAMEWORKS], capture_output=True, text=True, timeout=_SECONDS, check=False
    )
    try:
        said: Any = json.loads(done.stdout)
    except json.JSONDecodeError:
        raise TestbedError(f"checkov failed: {done.stderr.strip() or done.stdout.strip()}") from None
    reports = [each for each in (said if isinstance(said, list) else [said]) if "results" in each]
    broken = [file for each in reports for file in each["results"].get("parsing_errors", [])]
    if not reports or broken:
        raise TestbedError(f"checkov could not read {', '.join(broken) or folder}: {done.stderr.strip()}")
    return [_finding(each) for report in reports for each in report["results"]["failed_checks"]]


def judged(findings: list[Finding]) -> list[str]:
    """Return the open findings: those that are not accepted, and entries that accept no finding."""
    entries = yaml.safe_load(ACCEPTED.read_text())
    left = [str(each) for each in findings if not any(_accepts(entry, each) for entry in entries)]
    idle = [entry for entry in entries if not any(_accepts(entry, each) for each in findings)]
    return [*left, *(f"{ACCEPTED.name}: {each['check']} of {each['of']} is no longer found: drop it" for each in idle)]


def _accepts(entry: dict[str, str], finding: Finding) -> bool:
    return entry["check"] == finding.check and re.search(entry["of"], f"{finding.file} {finding.resource}") is not None


def _finding(result: dict[str, Any]) -> Finding:
    return Finding(result["check_id"], result["check_name"], result["resource"], result["file_path"])


def _program() -> Path:
    """Return Checkov's program; create its environment in the cache if it is missing."""
    match = re.search(r"^checkov==(\S+)", LOCK.read_text(), re.MULTILINE)
    assert match is not None
    folder = paths.cache() / f"checkov-{match[1]}"
    whole = folder / ".whole"
    if not whole.exists():
        with step(f"Installing Checkov {match[1]} (some 100 packages; once, kept in the cache)"):
            shutil.rmtree(folder, ignore_errors=True)
            subprocess.run([sys.executable, "-m", "venv", folder], check=True)
            install: list[str | Path] = [Path(sys.executable).with_name("uv"), "pip", "install", "--quiet"]
            python = folder / "bin" / "python"
            done = subprocess.run([*install, "--require-hashes", "--python", python, "-r", LOCK], check=False)
            if done.returncode != 0:
                raise TestbedError("Checkov could not be installed (is the network there?).")
            whole.touch()
    return folder / "bin" / "checkov"
