"""Completion of `kubectl agent …`, as kubectl requests it from a plugin (kubectl, "Extend kubectl with plugins")."""

from collections.abc import Iterator, Sequence

import click
from click.shell_completion import ShellComplete

# Cobra's ShellCompDirective: what else the shell may suggest.
_DEFAULT = 0
_NO_FILES = 4


def candidates(group: click.Group, words: Sequence[str]) -> Iterator[str]:
    """Yield the lines that kubectl's completion reads: `value<TAB>help` per candidate, then `:directive`.

    `words` are the words after `kubectl agent`; the last is the one to complete, and may be empty.
    """
    before, incomplete = list(words[:-1]), words[-1] if words else ""
    found = ShellComplete(group, {}, "kubectl agent", "").get_completions(before, incomplete)
    plain = [item for item in found if item.type == "plain"]
    yield from (f"{item.value}\t{item.help or ''}".rstrip() for item in plain)
    yield f":{_NO_FILES if plain else _DEFAULT}"
