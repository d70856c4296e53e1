"""A container's last words, with what looks like a secret masked. Pure."""

import json
import re

LONGEST = 300

_SECRETS = (
    re.compile(r"\bsk-[A-Za-z0-9_-]+"),
    re.compile(r"(?i)(?<=bearer )\S+"),
    re.compile(r"(?i)(?<=basic )\S+"),
    # Of a URL, the user and the password.
    re.compile(r"(?<=://)[^/\s@]+(?=@)"),
    # key=value and "key": "value", where the name says what it is.
    re.compile(r"""(?i)((?:api[-_ ]?key|token|password|passwd|secret|credential)s?["']?\s*[=:]\s*["']?)[^\s"',;]+"""),
    # A long word of letters and digits: a key in hexadecimal or base64. Images and pods have shorter ones.
    re.compile(r"(?=[A-Za-z0-9_+=-]*[0-9])(?=[A-Za-z0-9_+=-]*[A-Za-z])[A-Za-z0-9_+=-]{28,}"),
)


def last_line(text: str) -> str:
    """The last line that says something, of a log as text or as JSON; masked, and cut to 300 characters."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        return ""
    return masked(_told(lines[-1]))[:LONGEST]


def masked(text: str) -> str:
    """The text with `***` in the place of what looks like a secret."""
    for pattern in _SECRETS:
        text = pattern.sub(lambda match: f"{match[1] if match.lastindex else ''}***", text)
    return text


def _told(line: str) -> str:
    """What a line of a JSON log tells."""
    try:
        entry = json.loads(line)
    except ValueError:
        return line
    return str(entry.get("message") or line) if isinstance(entry, dict) else line
