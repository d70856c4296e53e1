"""A container's last log line, with anything that looks like a secret masked. Pure."""

import json
import re

LONGEST = 300

_SECRETS = (
    re.compile(r"\bsk-[A-Za-z0-9_-]+"),
    re.compile(r"(?i)(?<=bearer )\S+"),
    re.compile(r"(?i)(?<=basic )\S+"),
    # The user and the password in a URL.
    re.compile(r"(?<=://)[^/\s@]+(?=@)"),
    # key=value and "key": "value" with a name that indicates a secret.
    re.compile(r"""(?i)((?:api[-_ ]?key|token|password|passwd|secret|credential)s?["']?\s*[=:]\s*["']?)[^\s"',;]+"""),
    # A long word of letters and digits: a key in hexadecimal or base64. Names of images and pods have shorter words.
    re.compile(r"(?=[A-Za-z0-9_+=-]*[0-9])(?=[A-Za-z0-9_+=-]*[A-Za-z])[A-Za-z0-9_+=-]{28,}"),
)


def last_line(text: str) -> str:
    """Return the last non-empty line of a text or JSON log, masked and cut to 300 characters."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        return ""
    return masked(_message(lines[-1]))[:LONGEST]


def masked(text: str) -> str:
    """Return the text with `***` in place of anything that looks like a secret."""
    for pattern in _SECRETS:
        text = pattern.sub(lambda match: f"{match[1] if match.lastindex else ''}***", text)
    return text


def _message(line: str) -> str:
    """Return the message of a line of a JSON log, or the line itself."""
    try:
        entry = json.loads(line)
    except ValueError:
        return line
    return str(entry.get("message") or line) if isinstance(entry, dict) else line
