"""Redaction of other programs' answers for our log: one short line without secrets. Clients never see it."""

import re
from collections.abc import Iterable

_LONGEST = 300

# A match of this length is unlikely to be a coincidence.
_QUOTED = 16

_MASK = "***"

# Each replacement keeps the name of the secret.
_SECRETS = (
    # The userinfo of an address (RFC 3986, 3.2.1). What users write into it is not always encoded.
    (re.compile(r"(://)[^\s/@]+@"), rf"\1{_MASK}@"),
    (re.compile(r"(?i)\b(authorization[\"']?\s*[:=]\s*[\"']?)(?:[a-z]+\s+)?[^\s,;\"']+"), rf"\1{_MASK}"),
    (re.compile(r"(?i)\b(bearer)\s+[^\s,;\"']+"), rf"\1 {_MASK}"),
    (
        re.compile(r"(?i)((?:key|token|secret|password|passwd|pwd|credentials?)[\"']?\s*[:=]\s*[\"']?)[^\s\"',;&]+"),
        rf"\1{_MASK}",
    ),
    # Vendor prefixes of keys and tokens, also where only a part is quoted.
    (
        re.compile(r"\b((?:[sprah]k|gh[opsu]|github_pat|glpat|xox[abps]|hf)[-_]|AKIA|ASIA|AIza|eyJ)[^\s\"',;]{3,}"),
        rf"\1{_MASK}",
    ),
    # A long string of letters and digits is more likely a key than a word.
    (re.compile(r"\b(?=[A-Za-z_+/=]*\d)(?=[\d_+/=]*[A-Za-z])[\w+/=]{24,}"), _MASK),
)

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]+")

# The same, except tab and line feed.
_TERMINAL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """Return a text as one line without control characters, including those that change the text direction."""
    return " ".join(_CONTROL.sub(" ", text).split())


def harmless(text: str) -> str:
    """Return a text of several lines that cannot control a terminal: control characters are shown as `\\uXXXX`."""
    return _TERMINAL.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def for_log(text: str, *, known: Iterable[str] = (), private: Iterable[str] = ()) -> str:
    """Return an answer of another program as one line of at most 300 characters, without secrets.

    Args:
        text: the answer.
        known: secrets that the text may quote, such as our own key.
        private: what users wrote. A text that quotes part of it is withheld completely.
    """
    line = printable(text[: 4 * _LONGEST])
    for secret in known:
        line = line.replace(secret, _MASK) if secret else line
    for pattern, replacement in _SECRETS:
        line = pattern.sub(replacement, line)
    line = line[:_LONGEST]
    pieces = {line[start : start + _QUOTED] for start in range(len(line) - _QUOTED + 1)}
    if any(piece in words for words in private for piece in pieces):
        return "withheld, as it quotes a user"
    return line
