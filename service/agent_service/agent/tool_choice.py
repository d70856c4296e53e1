"""Chooses a tool without a model, from the words of a message. Pure.

The rule is strict, because a tool may have effects (docs/how-to/tools.md has it for users):

- Every word of the tool's name must be in the message. Singular and plural are the same word. A question such as "how
  many", "which" or "show" also has the words of reading, such as `list` and `count`; another word must be in it.
- Each required argument must have a value: one that the message contains, or the default of the schema.
- The tool with the most words in its name wins, then the one whose description shares the most words with the message,
  then the one with the fewest required arguments, then the first.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

# A tool that only reads has one of these in its name, and a question one of either set.
_READING = frozenset({"count", "find", "get", "list", "read", "show"})
_QUESTION = frozenset({"how", "what", "when", "where", "which", "who"})

# Words that connect the others. They do not decide, and are not values of arguments.
_CONNECTING = frozenset(
    re.findall(
        r"\w+",
        "a all an and any are as at be by can do does for from has have i in is it its many me much my of on or our "
        "please that the there these this those to us we with you your",
    )
)

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
# A text in quotes, or a word.
_TOKEN = re.compile(r"\"([^\"]+)\"|`([^`]+)`|(?<!\w)'([^']+)'|([^\s\"`,;:=?!()]+)")
# Not `is`, `its` or `class`.
_PLURAL = re.compile(r"\w{2,}[^s\W]s")
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")

# Between the name of an entry and that of a tool, where several servers have a tool of this name.
_SEPARATOR = "__"


@dataclass(frozen=True, slots=True)
class Choice:
    """A tool and the input of its call."""

    name: str
    input: Mapping[str, Any]


def choose(message: str, tools: Iterable[Mapping[str, Any]]) -> Choice | None:
    """Return the tool that a message asks for; None if there is none.

    Args:
        message: the user's message.
        tools: definitions of tools in the form of the Messages API. Those that the model API runs itself are skipped.
    """
    said = frozenset(_words(message))
    implied = said | _READING if said & (_READING | _QUESTION) else said
    best: tuple[tuple[int, int, int], Choice] | None = None
    for tool in tools:
        schema = tool.get("input_schema")
        name = frozenset(_words(str(tool["name"]).rpartition(_SEPARATOR)[2])) - _CONNECTING
        if not isinstance(schema, Mapping) or not name & said or not name <= implied:
            continue
        given = _arguments(message, schema, name)
        if given is None:
            continue
        described = frozenset(_words(str(tool.get("description", "")))) - _CONNECTING
        rank = (len(name), len(described & implied), -len(_required(schema)))
        if best is None or rank > best[0]:
            best = (rank, Choice(str(tool["name"]), given))
    return None if best is None else best[1]


def _words(text: str) -> Iterator[str]:
    """Yield the words of a text or a name, in the singular."""
    for word in _WORD.findall(text):
        lower = word.lower()
        yield lower[:-1] if _PLURAL.fullmatch(lower) else lower


def _required(schema: Mapping[str, Any]) -> Sequence[str]:
    found = schema.get("required")
    return found if isinstance(found, list) else ()


def _arguments(message: str, schema: Mapping[str, Any], name: frozenset[str]) -> dict[str, Any] | None:
    """Return the values of the required arguments; None if one of them has none."""
    values = _Values(message, name)
    given: dict[str, Any] = {}
    for argument in _required(schema):
        about = (schema.get("properties") or {}).get(argument)
        value = values.of(argument, about if isinstance(about, Mapping) else {})
        if value is None:
            return None
        given[argument] = value
    return given


@dataclass(frozen=True, slots=True)
class _Token:
    """A word or a quoted text. `stands_out` is whether it looks like a value: in quotes, or with a capital letter."""

    text: str
    quoted: bool
    stands_out: bool


class _Values:
    """The values that a message contains. Each is used once."""

    def __init__(self, message: str, name: frozenset[str]) -> None:
        """Read the values from a message, for a tool whose name has these words."""
        self._tokens: list[_Token] = []
        for match in _TOKEN.finditer(message):
            text = next(group for group in match.groups() if group is not None)
            quoted = match[4] is None
            # The first word of a message has a capital letter anyway.
            stands_out = quoted or (bool(self._tokens) and text[0].isupper())
            self._tokens.append(_Token(text if quoted else text.strip(".'"), quoted, stands_out))
        self._no_values = name | _CONNECTING | _QUESTION | _READING

    def of(self, argument: str, schema: Mapping[str, Any]) -> Any:
        """Return the value of an argument, or None if the message has none and the schema no default."""
        kind, choices = schema.get("type"), schema.get("enum")
        found: Any = None
        if isinstance(choices, list):
            found = self._take(lambda token: token.text in choices)
        elif kind == "integer":
            token = self._take(lambda token: token.text.removeprefix("-").isdecimal())
            found = None if token is None else int(token)
        elif kind == "number":
            token = self._take(lambda token: _NUMBER.fullmatch(token.text) is not None)
            found = None if token is None else float(token)
        elif kind == "string":
            found = self._text(argument)
        return schema.get("default") if found is None else found

    def _text(self, argument: str) -> str | None:
        """Return the token after the argument's name, or else the first one that stands out."""
        name = list(_words(argument))[-1:]
        for before, token in pairwise(self._tokens):
            if list(_words(before.text)) == name and self._is_value(token):
                self._tokens.remove(token)
                return token.text
        return self._take(lambda token: token.stands_out and self._is_value(token))

    def _take(self, fits: Callable[[_Token], bool]) -> str | None:
        """Return the first token that fits, and remove it; None if none fits."""
        for token in self._tokens:
            if fits(token):
                self._tokens.remove(token)
                return token.text
        return None

    def _is_value(self, token: _Token) -> bool:
        return token.quoted or not set(_words(token.text)) <= self._no_values
