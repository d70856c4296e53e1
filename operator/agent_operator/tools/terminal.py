"""The one way from the tools to the terminal: what others wrote cannot control it.

Messages of the API server, of pods and of agents, and the texts of files, may hold escape sequences, which move the
cursor or set the title of the window, and characters that turn the direction of a line. They are shown as `\\uXXXX`,
which means the same inside the strings of JSON, and of YAML where they are in double quotes.
"""

import re

import click

# C0 but tab and line feed, DEL and C1 (ECMA-48); the controls of direction (Unicode, Bidi_Control), and the separators
# of lines and paragraphs.
UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def harmless(text: str) -> str:
    """Return the text with every character that could control a terminal in a visible form."""
    return UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def show(text: str, *, error: bool = False, newline: bool = True, colour: str | None = None) -> None:
    """Print a text to standard output, or to standard error if `error`; `colour` is one of click's."""
    click.secho(harmless(text), err=error, nl=newline, fg=colour)
