"""Options and error handling that the commands of the tools share."""

import functools
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

import click

from agent_operator.tools.errors import ToolError
from agent_operator.tools.terminal import show

P = ParamSpec("P")
T = TypeVar("T")

# The exit code of `kubectl diff` if it fails; 1 means that there are differences.
FAILED = 2


def _files(*, required: bool) -> Callable[[Callable[..., T]], Callable[..., T]]:
    return click.option(
        "-f",
        "--file",
        "sources",
        multiple=True,
        required=required,
        metavar="FILE",
        help="A file, a folder of YAML and JSON files, or - for stdin. Can be repeated.",
    )


files = _files(required=True)
"""The option -f of a tool that only reads files."""
optional_files = _files(required=False)
"""The option -f of a tool that reads files or the cluster."""


with_class = click.option(
    "--class",
    "class_path",
    type=click.Path(exists=True, path_type=Path),
    metavar="FILE",
    help="File or folder with the AgentClass that agents have, instead of those of the cluster.",
)
"""The option --class of a tool that applies classes."""


def reports_errors(command: Callable[P, T]) -> Callable[P, T]:
    """Return the command with each of its errors reported as lines that explain what to do, and exit code 2."""

    @functools.wraps(command)
    def wrapped(*arguments: P.args, **options: P.kwargs) -> T:
        try:
            return command(*arguments, **options)
        except (click.ClickException, click.Abort, click.exceptions.Exit, BrokenPipeError):
            raise
        except ToolError as error:
            lines = error.lines
        except Exception as error:
            lines = (_internal_error(error),)
        for line in lines:
            show(f"Error: {line}", error=True)
        raise SystemExit(FAILED)

    return wrapped


def _internal_error(error: Exception) -> str:
    """Return one line instead of a stack trace, without the error's own message, which may quote the input."""
    where = traceback.extract_tb(error.__traceback__)[-1]
    return f"Internal error: {type(error).__name__} in {where.name}, line {where.lineno}. Please report it."


def cluster(command: Callable[..., T]) -> Callable[..., T]:
    """Add the options that select the cluster and the namespace, with the names that kubectl uses."""
    options = (
        click.option("-n", "--namespace", metavar="NAME", help="Namespace. That of the context by default."),
        click.option("--context", metavar="NAME", help="Context of the kubeconfig. The current one by default."),
        click.option("--kubeconfig", metavar="FILE", help="Kubeconfig file. KUBECONFIG or ~/.kube/config by default."),
    )
    return functools.reduce(lambda wrapped, option: option(wrapped), reversed(options), command)
