"""What a policy refuses in a spec, determined in Python. `admission` has the same checks for the API server."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agent_operator.api.spec import AgentSpec
from agent_operator.api.validation import Fault
from agent_operator.manifests.network_policy import port_of
from agent_operator.policy.checks import CHECKS, Check, Is, IsNot, KeysListed, PortListed, Test
from agent_operator.policy.settings import Policy

LIST = "[]"


class _UnreadableError(Exception):
    """The spec has a type here that differs from the core API. What cannot be checked is refused."""


@dataclass(frozen=True)
class _Root:
    """A value of the spec, and its path."""

    field: str
    value: Any


def refusals(spec: AgentSpec, policy: Policy) -> list[Fault]:
    """Return the fields of the spec that the policy refuses, each with a sentence that names the setting."""
    document, settings = spec.model_dump(by_alias=True, exclude_none=True), policy.by_name()
    return list(dict.fromkeys(fault for check in CHECKS for fault in _refusals(document, check, settings)))


def _refusals(spec: Mapping[str, Any], check: Check, settings: Mapping[str, bool | list[str]]) -> Iterator[Fault]:
    if check.when is not None and _only(spec, check.when.path.split(".")) != check.when.value:
        return
    setting = settings[check.setting]
    if setting is True:
        return
    listed = setting if isinstance(setting, list) else []
    for root, rest in _roots(spec, check.segments):
        try:
            fields = _refused(root, rest, check.test, listed)
        except _UnreadableError:
            fields = [".".join([root.field, *rest])]
        yield from (Fault(field.replace(LIST, ""), check.explanation) for field in fields)


def _roots(spec: Mapping[str, Any], segments: Sequence[str]) -> Iterator[tuple[_Root, list[str]]]:
    """Yield the starting points of a check, which are the spec or the entries of a named list, with the remaining
    path."""
    first, *rest = segments
    if not first.endswith(LIST):
        yield _Root("spec", spec), list(segments)
        return
    name = first.removesuffix(LIST)
    for item in spec.get(name, []):
        yield _Root(f"spec.{name}[{item['name']}]", item), rest


def _refused(root: _Root, rest: Sequence[str], test: Test, listed: Sequence[str]) -> list[str]:
    """Return the fields that the test refuses, at or below the root."""
    field = ".".join([root.field, *rest])
    values = [value for value in _values(root.value, rest) if value is not None]
    if not isinstance(test, KeysListed):
        return [field] if any(_is_refused(value, test, listed) for value in values) else []
    keys = [key for value in values for key in _mapping(value) if key not in test.besides and not _matches(key, listed)]
    # For a named entry, the field is the entry itself.
    return [f"{field}[{key}]" for key in sorted(keys)] if rest else [field] * bool(keys)


def _is_refused(value: Any, test: Test, listed: Sequence[str]) -> bool:
    if isinstance(test, Is):
        return any(_same(value, each) for each in test.values)
    if isinstance(test, IsNot):
        return not any(_same(value, each) for each in test.values)
    if isinstance(test, PortListed):
        return str(port_of(value)) not in listed
    return not _matches(str(value), listed)


def _same(one: Any, other: Any) -> bool:
    """Return whether two values are equal as in CEL, where booleans are not numbers."""
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def _matches(value: str, patterns: Sequence[str]) -> bool:
    return any(
        value.startswith(pattern.removesuffix("*")) if pattern.endswith("*") else value == pattern
        for pattern in patterns
    )


def _only(value: Any, segments: Sequence[str]) -> Any:
    """Return the value at a path without lists, or None if it is missing."""
    return next(iter(_values(value, segments)), None)


def _values(value: Any, segments: Sequence[str]) -> list[Any]:
    """Return the values at a path: one, or those of all entries of the lists on it. Raises _UnreadableError."""
    if not segments:
        return [value]
    first, *rest = segments
    found = _mapping(value).get(first.removesuffix(LIST))
    if found is None:
        return []
    if not first.endswith(LIST):
        return _values(found, rest)
    if not isinstance(found, list):
        raise _UnreadableError
    return [each for item in found for each in _values(item, rest)]


def _mapping(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise _UnreadableError
    return value
