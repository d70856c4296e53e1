"""What a policy refuses in a spec, determined in Python. `admission` has the same checks for the API server."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from agent_operator.api.spec import AgentSpec
from agent_operator.api.validation import Fault
from agent_operator.manifests.network_policy import port_of
from agent_operator.policy.checks import CHECKS, Check, Is, IsNot, KeysListed, PortListed, Test
from agent_operator.policy.fields import LIST, Root, UnreadableError, mapping, matches, only, roots, values
from agent_operator.policy.settings import Policy


def refusals(spec: AgentSpec, policy: Policy) -> list[Fault]:
    """Return the fields of the spec that the policy refuses, each with a sentence that names the setting."""
    document, settings = spec.model_dump(by_alias=True, exclude_none=True), policy.by_name()
    return list(dict.fromkeys(fault for check in CHECKS for fault in _refusals(document, check, settings)))


def _refusals(spec: Mapping[str, Any], check: Check, settings: Mapping[str, bool | list[str]]) -> Iterator[Fault]:
    if check.when is not None and only(spec, check.when.path.split(".")) != check.when.value:
        return
    setting = settings[check.setting]
    if setting is True:
        return
    listed = setting if isinstance(setting, list) else []
    for root, rest in roots(spec, check.segments):
        try:
            fields = _refused(root, rest, check.test, listed)
        except UnreadableError:
            fields = [".".join([root.field, *rest])]
        yield from (Fault(field.replace(LIST, ""), check.explanation) for field in fields)


def _refused(root: Root, rest: Sequence[str], test: Test, listed: Sequence[str]) -> list[str]:
    """Return the fields that the test refuses, at or below the root."""
    field = ".".join([root.field, *rest])
    found = [value for value in values(root.value, rest) if value is not None]
    if not isinstance(test, KeysListed):
        return [field] if any(_is_refused(value, test, listed) for value in found) else []
    keys = [key for value in found for key in mapping(value) if key not in test.besides and not matches(key, listed)]
    # For a named entry, the field is the entry itself.
    return [f"{field}[{key}]" for key in sorted(keys)] if rest else [field] * bool(keys)


def _is_refused(value: Any, test: Test, listed: Sequence[str]) -> bool:
    if isinstance(test, Is):
        return any(_same(value, each) for each in test.values)
    if isinstance(test, IsNot):
        return not any(_same(value, each) for each in test.values)
    if isinstance(test, PortListed):
        return str(port_of(value)) not in listed
    return not matches(str(value), listed)


def _same(one: Any, other: Any) -> bool:
    """Return whether two values are equal as in CEL, where booleans are not numbers."""
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)
