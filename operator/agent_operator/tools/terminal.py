"""All output of the tools to the terminal, escaped so that external text cannot control it.

Messages of the API server, of pods and of agents, and the content of files, may contain escape sequences, which move
the cursor or set the window title, and characters that change the text direction. They are shown as `\\uXXXX`, which
means the same in JSON strings and in double-quoted YAML strings.
"""

import re

import click

# C0 except tab and line feed, DEL and C1 (ECMA-48); direction controls (Unicode, Bidi_Control), and line and paragraph
# separators.
UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def harmless(text: str) -> str:
    """Return the text with every character that could control a terminal replaced by a visible escape."""
    return UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def show(text: str, *, error: bool = False, newline: bool = True, colour: str | None = None) -> None:
    """Print a text to standard output, or to standard error if `error`; `colour` is a color name of click."""
    click.secho(harmless(text), err=error, nl=newline, fg=colour)
