"""The checks of a policy as CEL, for a ValidatingAdmissionPolicy (Kubernetes: "Validating Admission Policy").

The text is the same for every policy. The chart has it as a file, and adds the settings as the variable `allow`: a map
of the same strings that the operator reads from its ConfigMap. The settings are not parameters (`paramKind`): once no
policy is bound to a parameter of a core kind, an API server permanently loses the parameters of that kind, and uses
stale ones (kubernetes/kubernetes#130887).
"""

import json
from collections.abc import Sequence
from typing import Any

from agent_operator.policy.checks import CHECKS, Check, Is, IsNot, KeysListed, PortListed, ValueListed
from agent_operator.policy.fields import LIST
from agent_operator.policy.settings import Policy

# The API server accepts at most 5 KiB for the message of an expression.
MAX_MESSAGE = 4000
# For a spec with too many refusals, or with a field that an expression cannot evaluate.
FALLBACK = (
    "the operator's policy (policies.allow of its chart) does not allow this spec: "
    "`kubectl agent validate --policy` names each field"
)
# Objects older than the policy may stay. Their annotations and finalizers can be changed (the garbage collector removes
# finalizers). A change of the spec, or of the labels that an operator selects by, must not keep a refused field.
CHANGED = (
    "request.operation == 'CREATE' || object.spec != oldObject.spec "
    "|| object.metadata.?labels.orValue({}) != oldObject.metadata.?labels.orValue({})"
)


def admission() -> dict[str, Any]:
    """Return the part of the ValidatingAdmissionPolicy's spec that holds the checks."""
    settings = list(dict.fromkeys(check.setting for check in CHECKS))
    lists = [name for name in settings if isinstance(Policy().model_dump(by_alias=True)[name], list)]
    refused = {name: _sum([_refused(check) for check in CHECKS if check.setting == name]) for name in settings}
    variables = {_listed(name): f"variables.allow['{name}'].split(',')" for name in lists}
    variables |= {_refusals(name): expression for name, expression in refused.items()}
    variables |= {
        "refusals": _sum([f"variables.{_refusals(name)}" for name in settings]),
        "message": "variables.refusals.join('; ')",
    }
    return {
        "matchConditions": [{"name": "changed", "expression": CHANGED}],
        "variables": [{"name": name, "expression": expression} for name, expression in variables.items()],
        "validations": [
            {
                "expression": "variables.refusals.size() == 0",
                "message": FALLBACK,
                "messageExpression": f"variables.message.size() <= {MAX_MESSAGE} ? variables.message : "
                f"variables.message.substring(0, {MAX_MESSAGE}) + ' …'",
            }
        ],
    }


def _listed(setting: str) -> str:
    return f"{setting}_listed"


def _refusals(setting: str) -> str:
    return f"{setting}_refused"


def _sum(lists: Sequence[str]) -> str:
    return " + ".join(f"({each})" for each in lists)


def _refused(check: Check) -> str:
    """Return a CEL expression for the messages of one check."""
    conditions = []
    if check.when is not None:
        other = _optional("object.spec", check.when.path.split("."))
        conditions.append(f"{other} == optional.of({_cel(check.when.value)})")
    if isinstance(check.test, Is | IsNot):
        conditions.append(f"variables.allow['{check.setting}'] != 'true'")
    found = _found(check)
    return f"{' && '.join(conditions)} ? ({found}) : []" if conditions else found


def _found(check: Check) -> str:
    first, *rest = check.segments
    ending = _cel(f": {check.explanation}")
    if first.endswith(LIST):
        name = first.removesuffix(LIST)
        below = "".join(f".{each}" for each in rest).replace(LIST, "")
        field = f"{_cel(f'spec.{name}[')} + string(item.name) + {_cel(f']{below}')}"
        items = f"object.spec.?{name}.orValue([])"
        return f"{items}.filter(item, {_condition(check, 'item', rest)}).map(item, {field} + {ending})"
    field = f"spec.{check.path}".replace(LIST, "")
    if isinstance(check.test, KeysListed):
        keys = f"{_optional('object.spec', check.segments)}.orValue({{}})"
        bad = _is_bad_key(check, check.test)
        return f"{keys}.filter(key, {bad}).map(key, {_cel(f'{field}[')} + key + {_cel(']')} + {ending})"
    return f"{_condition(check, 'object.spec', check.segments)} ? [{_cel(f'{field}: {check.explanation}')}] : []"


def _condition(check: Check, base: str, segments: Sequence[str], depth: int = 0) -> str:
    """Return a CEL expression for whether the test refuses the value at the path `segments` below `base`."""
    for index, each in enumerate(segments):
        if each.endswith(LIST):
            entries = _optional(base, [*segments[:index], each.removesuffix(LIST)])
            entry = f"entry{depth}"
            return (
                f"{entries}.orValue([]).exists({entry}, {_condition(check, entry, segments[index + 1 :], depth + 1)})"
            )
    if not segments:
        return _is_refused(check, base)
    value = _optional(base, segments)
    return f"{value}.hasValue() && {_is_refused(check, f'{value}.value()')}"


def _is_refused(check: Check, value: str) -> str:
    test = check.test
    if isinstance(test, Is | IsNot):
        values = ", ".join(f"dyn({_cel(each)})" for each in test.values)
        return f"{value} in [{values}]" if isinstance(test, Is) else f"!({value} in [{values}])"
    if isinstance(test, KeysListed):
        return f"{value}.exists(key, {_is_bad_key(check, test)})"
    if isinstance(test, PortListed):
        return f"[{value}].exists(address, {_port_is_bad(check)})"
    assert isinstance(test, ValueListed)
    return f"!{_matches(check.setting, f'string({value})')}"


def _is_bad_key(check: Check, test: KeysListed) -> str:
    besides = f"!(key in {_cel(list(test.besides))}) && " if test.besides else ""
    return f"{besides}!{_matches(check.setting, 'key')}"


def _port_is_bad(check: Check) -> str:
    """Return a CEL expression for whether the port of `address` is not listed.

    The port is that of `port_of`: the digits after the last colon of the authority, or the port of the scheme.
    """
    authority = "address.split('://')[1].split('/')[0].split('?')[0].split('#')[0]"
    of_scheme = "(address.startsWith('https:') ? '443' : address.startsWith('http:') ? '80' : '6379')"
    port = f"digits.matches('[1-9]') ? string(int(digits)) : {of_scheme}"
    found = f"[{authority}.find(':[0-9]*$').replace(':', '')].map(digits, {port})"
    return f"!({found}[0] in variables.{_listed(check.setting)})"


def _matches(setting: str, value: str) -> str:
    begins = f"{value}.startsWith(pattern.substring(0, pattern.size() - 1))"
    return f"variables.{_listed(setting)}.exists(pattern, pattern == {value} || (pattern.endsWith('*') && {begins}))"


def _optional(base: str, segments: Sequence[str]) -> str:
    return base + "".join(f".?{each}" for each in segments)


def _cel(value: Any) -> str:
    """Return the value as a CEL literal."""
    if isinstance(value, str):
        return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
    return json.dumps(value)
