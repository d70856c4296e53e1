"""The value of a YAML scalar in Go (go.yaml.in/yaml/v2, resolve.go), and its form in JSON."""

import base64
import binascii
import math
import re
import struct
from typing import Any

_STR, _BOOL, _INT, _FLOAT, _NULL, _TIMESTAMP, _BINARY, MERGE = (
    f"tag:yaml.org,2002:{name}" for name in ("str", "bool", "int", "float", "null", "timestamp", "binary", "merge")
)
_RESOLVABLE = {"", _STR, _BOOL, _INT, _FLOAT, _NULL, _TIMESTAMP}

# resolve.go, `init`.
_WORDS: dict[str, tuple[str, Any]] = {
    **dict.fromkeys(("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"), (_BOOL, True)),
    **dict.fromkeys(("n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"), (_BOOL, False)),
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), (_NULL, None)),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), (_FLOAT, math.nan)),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), (_FLOAT, math.inf)),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), (_FLOAT, -math.inf)),
}
# strconv.ParseInt with base 0, after underscores are removed (resolve.go); also a sign before `0b`.
_INTEGER = re.compile(
    r"(?P<sign>[-+]?)(?:0[xX](?P<hex>[0-9a-fA-F]+)|0[oO]?(?P<oct>[0-7]+)|0[bB](?P<bin>[01]+)|(?P<dec>0|[1-9][0-9]*))\Z"
    # `0b` is removed, and the rest is parsed again with its own sign.
    r"|0b(?P<odd>[-+][01]+)\Z"
)
_BASES = {"hex": 16, "oct": 8, "bin": 2, "dec": 10, "odd": 2}
_DECIMAL = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z")
# strconv.ParseFloat accepts underscores between digits.
_FRACTION = re.compile(r"\.[0-9]+(_[0-9]+)*([eE][-+]?[0-9]+(_[0-9]+)*)?\Z")
INT64 = range(-(2**63), 2**63)
_UINT64 = 2**64
# encoding/json writes floats below this without an exponent, so that whole numbers are read as integers.
_WHOLE = 1e21


class ScalarError(ValueError):
    """A scalar cannot be read. The message has the reason, but not the text, which may be a key."""


def scalar(text: str, tag: str, *, implicit: bool) -> Any:
    """Return the value of a scalar; `implicit` means without quotes and tag. Raises ScalarError.

    (resolve.go: `resolve`; decode.go: `scalar`.)
    """
    if tag == _BINARY:
        try:
            return base64.b64decode(re.sub("[\r\n]", "", text), validate=True).decode("utf-8", errors="replace")
        except binascii.Error:
            raise ScalarError("!!binary needs base64") from None
    if tag not in _RESOLVABLE or tag == _STR or (tag == "" and not implicit):
        return text
    found, value = _resolved(text)
    if tag in {"", found}:
        return value
    if tag == _FLOAT and found == _INT and value in INT64:
        return float(value)
    raise ScalarError(f"a value does not match its tag !!{tag.rpartition(':')[2]}")


def _resolved(text: str) -> tuple[str, Any]:
    if text in _WORDS:
        return _WORDS[text]
    if text.startswith("."):
        value = float(text) if _FRACTION.match(text) else math.inf
        return (_STR, text) if math.isinf(value) else (_FLOAT, value)
    if text[:1] in "+-" or "0" <= text[:1] <= "9":
        return _number(text)
    return _STR, text


def _number(text: str) -> tuple[str, Any]:
    if _is_timestamp(text):
        return _TIMESTAMP, text
    plain = text.replace("_", "")
    match = _INTEGER.match(plain)
    if match is not None:
        base = str(match.lastgroup)
        integer = int(match[base], _BASES[base]) * (-1 if match["sign"] == "-" else 1)
        if integer in INT64 or (not match["sign"] and integer < _UINT64):
            return _INT, integer
    if _DECIMAL.match(plain):
        value = float(plain)
        if not math.isinf(value):
            return _FLOAT, value
    return _STR, text


# time.Parse with the four layouts of resolve.go. A time remains text; only an explicit tag makes a difference.
_TIMESTAMPS = re.compile(
    r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}"
    r"([Tt][0-9]{1,2}:[0-9]{1,2}:[0-9]{1,2}([.,][0-9]+)?(Z|[-+][0-9]{2}:[0-9]{2})"
    r"| [0-9]{1,2}:[0-9]{1,2}:[0-9]{1,2}([.,][0-9]+)?)?\Z"
)


def _is_timestamp(text: str) -> bool:
    return _TIMESTAMPS.match(text) is not None


def float_key(value: float) -> str:
    """Return a float as a key (sigs.k8s.io/yaml: `strconv.FormatFloat(value, 'g', -1, 32)`)."""
    single = value if math.isnan(value) else _single(value)
    if math.isnan(single) or math.isinf(single):
        return ".nan" if math.isnan(single) else ".inf" if single > 0 else "-.inf"
    digits = next(text for n in range(10) if _single(float(text := f"{single:.{n}e}")) == single)
    mantissa, _, exponent = digits.partition("e")
    places, power = len(mantissa.lstrip("-").replace(".", "")), int(exponent)
    if power < -4 or power >= 6:  # noqa: PLR2004  strconv, ftoa.go: `formatDigits`
        return f"{mantissa}e{'-' if power < 0 else '+'}{abs(power):02d}"
    return f"{float(digits):.{max(places - 1 - power, 0)}f}"


def _single(value: float) -> float:
    try:
        single: float = struct.unpack("f", struct.pack("f", value))[0]
    except OverflowError:
        return math.copysign(math.inf, value)
    return single


def json_value(value: Any) -> Any:
    """Return a scalar as after a JSON round trip: whole numbers are integers up to 64 bits, and none is infinite."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    if isinstance(value, float) and (math.isnan(value) or math.isinf(value)):
        raise ScalarError("JSON does not support infinite numbers")
    if isinstance(value, float) and value.is_integer() and abs(value) < _WHOLE:
        value = int(value)
    return value if not isinstance(value, int) or value in INT64 else float(value)
