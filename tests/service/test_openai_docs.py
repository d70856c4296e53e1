"""The code of the page on OpenAI's clients runs as it is written there."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import support.openai_clients
from support.agent import Service
from support.npm import node, packages
from testbed.paths import REPOSITORY

PAGE = REPOSITORY / "docs/how-to/clients/openai.md"
CLIENTS = Path(support.openai_clients.__file__).parent


def code(language: str, service: Service) -> str:
    """Return the code of the page in a language, for the address of a service."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert blocks
    return "\n".join(blocks).replace("http://127.0.0.1:8000", service.url)


@pytest.fixture
def script() -> Iterator[Path]:
    """Return a file beside the packages of npm, from which they can be imported."""
    file = packages(CLIENTS).parent / "page.mjs"
    yield file
    file.unlink(missing_ok=True)


def run(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_python_code_of_the_page_runs(service: Service) -> None:
    output = run(sys.executable, "-c", code("python", service))
    assert output.count('Stand-in heard "Which orders are late?"') == 1
    assert 'Stand-in heard "And since when?"' in output
    assert 'Stand-in heard "Check all orders."' in output
    assert output.endswith("response.completed\n")


def test_the_javascript_code_of_the_page_runs(service: Service, script: Path) -> None:
    script.write_text(code("js", service), encoding="utf-8")
    assert 'Stand-in heard "Which orders are late?"' in run(node(), script)
