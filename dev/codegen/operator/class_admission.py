"""The bounds of classes as CEL, for a ValidatingAdmissionPolicy (Kubernetes: "Validating Admission Policy").

One policy is for all classes: its parameters (`paramKind`) are the AgentClass objects themselves, so that a new or a
changed class is in force without a change of the policy, and the operator needs no permission to write policies. The
policy is evaluated with each class, and refuses nothing where an agent has another one. (The defect that loses
parameters, kubernetes/kubernetes#130887, is of core kinds alone.)
"""

from typing import Any

from agent_operator.api.agent import API_VERSION
from agent_operator.api.agent_class import CLASS_KIND, DEFAULT_CLASS, ClassDefaults
from agent_operator.api.schema import Schema, structural
from agent_operator.classes.checks import (
    BOUNDED_LIMITS,
    BY_SOURCE,
    BY_VARIABLE,
    CHECKS,
    DAYS,
    DOES_NOT_STOP,
    ENV_FROM,
    EXTRA_ENV,
    FOUNDRY_DOMAIN,
    LIMITS,
    NO_BUDGET,
    OF_SETTINGS,
    OTHER_PRICES,
    SETTINGS,
    SHARES,
    TOO_LARGE,
    Check,
    part_of,
)
from agent_operator.classes.choice import NOT_FOR_NAMESPACE
from agent_operator.classes.defaults import block_of, schema_default
from agent_operator.policy.fields import LIST, MAP, plain
from codegen.operator.admission import MAX_MESSAGE
from codegen.operator.cel import joined, literal, matches, only_if, optional

FALLBACK = "the agent's class does not allow this spec: `kubectl agent validate --class` names each field"
# Objects older than the class may stay, and be labelled, annotated and deleted.
CHANGED = "request.operation == 'CREATE' || object.spec != oldObject.spec"
BOUNDS = "params.spec.?bounds"
DEFAULTS = "params.spec.?defaults"
# The whole budget, and its shares.
PARTS = ("", *(f"{name}." for name in SHARES))


def class_admission() -> dict[str, Any]:
    """Return the part of the ValidatingAdmissionPolicy's spec that does not depend on a release."""
    bounds = list(dict.fromkeys(check.bound for check in CHECKS))
    names = {bound: f"{bound.replace('.', '_')}_refused" for bound in bounds}
    annotation = f"params.metadata.?annotations[?{literal(DEFAULT_CLASS)}].orValue('')"
    variables = {
        "named": "object.spec.?className.hasValue()",
        "isForNamespace": "params.spec.?namespaces.optMap(patterns, "
        f"{matches('request.namespace', 'patterns')}).orValue(true)",
        "chosen": "variables.named ? object.spec.className == params.metadata.name "
        f": {annotation} == 'true' && variables.isForNamespace",
        **_effective_variables(),
        "hasBudget": _has_budget(),
        **{names[bound]: joined([_refused(check) for check in CHECKS if check.bound == bound]) for bound in bounds},
        "budget_refused": _budget_refused(),
        "variables_refused": _variables_refused(),
    }
    every = joined([f"variables.{name}" for name in variables if name.endswith("_refused")])
    elsewhere = literal(f"spec.className: {NOT_FOR_NAMESPACE}")
    variables["refusals"] = f"!variables.chosen ? [] : !variables.isForNamespace ? [{elsewhere}] : ({every})"
    prefix = literal(f"{CLASS_KIND} ") + " + params.metadata.name + " + literal(" refuses the agent: ")
    variables["message"] = f"{prefix} + variables.refusals.join('; ')"
    return {
        "paramKind": {"apiVersion": API_VERSION, "kind": CLASS_KIND},
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


def _refused(check: Check) -> str:
    """Return an expression for the messages of one check."""
    bound = optional(BOUNDS, check.bound)
    conditions = [f"{bound}.hasValue()"]
    conditions += [f"{_effective(path)} == optional.of({literal(value)})" for path, value in (check.when or {}).items()]
    first, _, rest = check.path.partition(".")
    ending = literal(f": {check.explanation}")
    if first.endswith(LIST):
        name = first.removesuffix(LIST)
        field = f"{literal(f'spec.{name}[')} + string(item.name) + {literal(f'].{rest}')}"
        items = f"object.spec.?{name}.orValue([])"
        breaks = _breaks_there(check, "item", rest, f"{bound}.value()")
        return only_if(" && ".join(conditions), f"{items}.filter(item, {breaks}).map(item, {field} + {ending})")
    breaks = _breaks_there(check, None, check.path, f"{bound}.value()")
    message = literal(f"spec.{plain(check.path)}: {check.explanation}")
    return only_if(" && ".join([*conditions, breaks]), f"[{message}]")


def _breaks_there(check: Check, base: str | None, path: str, bound: str) -> str:
    """Return whether the value at a path breaks the bound; below the effective spec if `base` is None."""
    listed, inner, rest = path.partition(f"{LIST}.")
    if inner and base is None:
        return f"{_effective(listed)}.orValue([]).exists(item, {_breaks_there(check, 'item', rest, bound)})"
    found = _effective(plain(path)) if base is None else optional(base, plain(path))
    if check.test == "required amount":
        part = part_of(path)
        there = f"{_effective(part) if base is None else optional(base, part)}.hasValue() && " if part else ""
        amounts = f"{found}.orValue({{}})"
        return f"{there}({bound}.exists(name, !(name in {amounts})) || {_exceeds(amounts, bound)})"
    if path.endswith(LIST):
        breaks = f"{found}.orValue([]).exists(value, {_breaks(check, 'value', bound)})"
        return f"({found}.orValue([]).size() == 0 || {breaks})" if check.present else breaks
    if path.endswith(MAP):
        return f"{found}.orValue({{}}).exists(key, {_breaks(check, f'{found}.value()[key]', bound)})"
    return f"{found}.hasValue() && {_breaks(check, f'{found}.value()', bound)}"


def _breaks(check: Check, value: str, bound: str) -> str:
    below = f"({value}.startsWith(entry + ':') || {value}.startsWith(entry + '@'))"
    below = f"({below} && !{value}.substring(entry.size()).contains('/'))"
    authority = f"[{value}.split('://')[1].split('/')[0]]"
    host = "authority.substring(0, authority.size() - authority.find(':[0-9]*$').size()).lowerAscii()"
    expressions = {
        "pattern": f"!{matches(value, bound)}",
        "image": f"!{bound}.exists(entry, {value} == entry || {value}.startsWith(entry + '/') || {below})",
        "address": f"{authority}.map(authority, {host}).exists(host, !{_is_host('host', bound)})",
        "resource": f"!{_is_host(f'({value} + {literal(FOUNDRY_DOMAIN)})', bound)}",
        "host": f"!{_is_host(value, bound)}",
        "permitted": f"{value} && !{bound}",
        "at least": f"{value} < {bound}",
        "at most": f"{value} > {bound}",
        "amount": _exceeds(value, bound),
    }
    return expressions[check.test]


def _is_host(host: str, bound: str) -> str:
    return f"{bound}.exists(entry, {host} == entry || (entry.startsWith('*.') && {host}.endsWith(entry.substring(1))))"


def _exceeds(amounts: str, bound: str) -> str:
    one, most = f"quantity(string({amounts}[key]))", f"quantity(string({bound}[key]))"
    return f"{amounts}.exists(key, key in {bound} && {one}.isGreaterThan({most}))"


def _effective(path: str) -> str:
    """Return the optional value of the effective spec."""
    return f"variables.{_variable(path)}" if _is_default_of_a_class(path) else optional("object.spec", path)


def _variable(path: str) -> str:
    return f"effective_{path.replace('.', '_')}"


def _effective_variables() -> dict[str, str]:
    """Return the values that a class may have a default for: each that a check is about."""
    paths = [plain(check.path) for check in CHECKS] + [path for check in CHECKS for path in check.when or {}]
    paths += [f"budget.{part}{name}" for part in PARTS for name, _ in BOUNDED_LIMITS]
    paths += [f"budget.{name}" for name in ("prices", "period", "action")]
    return {_variable(path): _merged(path) for path in dict.fromkeys(paths) if _is_default_of_a_class(path)}


def _merged(path: str) -> str:
    """Return the optional value of the spec, or that of the class where it counts as unset (see `with_class`)."""
    field, given = block_of(path), optional("object.spec", path)
    unset, default = optional("object.spec", field), schema_default(field)
    unset = f"!{unset}.hasValue()" if default is None else f"{unset}.orValue({literal(default)}) == {literal(default)}"
    return f"({unset} && {optional(DEFAULTS, field)}.hasValue() ? {optional(DEFAULTS, path)} : {given})"


def _is_default_of_a_class(path: str) -> bool:
    """Return whether a class may have a default for the field, or for the block of which it is a part."""
    node: Schema = structural(ClassDefaults)
    for name in path.split("."):
        if name not in node.get("properties", {}):
            return False
        node = node["properties"][name]
    return True


def _has_budget() -> str:
    """Return whether the agent has a budget, which a class provides only with a limit."""
    limits = " || ".join(f"{optional(DEFAULTS, f'budget.{name}')}.hasValue()" for name in LIMITS)
    return f"object.spec.?budget.hasValue() || {limits}"


def _budget_refused() -> str:
    bound = optional(BOUNDS, "budget")
    # Without a value, which only a budget of the class lacks, it has the default of the schema.
    period, action = (
        f"{_effective(f'budget.{name}')}.orValue({literal(schema_default(f'budget.{name}'))})"
        for name in ("period", "action")
    )
    times = f"({period} == 'day' ? {DAYS} : 1)"
    faults = [
        _limit_refused(f"{part}{name}", optional(bound, f"{part}{of_bound}"), times)
        for part in PARTS
        for name, of_bound in BOUNDED_LIMITS
    ]
    message = literal(f"spec.budget.action: {DOES_NOT_STOP}")
    faults.append(only_if(f"{action} != 'stop'", f"[{message}]"))
    prices, message = optional(DEFAULTS, "budget.prices"), literal(f"spec.budget.prices: {OTHER_PRICES}")
    cost = " || ".join(f"{optional(bound, f'{part}costPerMonth')}.hasValue()" for part in PARTS)
    other = f"({cost}) && {prices}.hasValue() && {_effective('budget.prices')} != {prices}"
    faults.append(only_if(other, f"[{message}]"))
    none = literal(f"spec.budget: {NO_BUDGET}")
    return only_if(f"{bound}.hasValue()", f"!variables.hasBudget ? [{none}] : ({joined(faults)})")


def _limit_refused(name: str, most: str, times: str) -> str:
    value = _effective(f"budget.{name}")
    missing, large = (literal(f"spec.budget.{name}: {each}") for each in (NO_BUDGET, TOO_LARGE))
    number = _money if name.endswith("cost") else str
    exceeds = f"{number(f'{value}.value()')} * {times} > {number(f'{most}.value()')}"
    return only_if(f"{most}.hasValue()", f"!{value}.hasValue() ? [{missing}] : {exceeds} ? [{large}] : []")


def _money(text: str) -> str:
    """Return an amount of money in millionths, which have no rounding errors."""
    decimals = "int(((parts.size() > 1 ? parts[1] : '') + '000000').substring(0, 6))"
    return f"[{text}.split('.')].map(parts, int(parts[0]) * 1000000 + {decimals})[0]"


def _variables_refused() -> str:
    bounded = " || ".join(f"{BOUNDS}.?{name}.hasValue()" for name in OF_SETTINGS)
    replaces = f"{literal(list(SETTINGS))}.exists(prefix, item.name.upperAscii().startsWith(prefix))"
    field = f"{literal(f'spec.{EXTRA_ENV}[')} + string(item.name) + {literal(f']: {BY_VARIABLE}')}"
    of_variables = f"object.spec.?{EXTRA_ENV}.orValue([]).filter(item, {replaces}).map(item, {field})"
    message = literal(f"spec.{ENV_FROM}: {BY_SOURCE}")
    of_source = only_if(f"object.spec.?{ENV_FROM}.orValue([]).size() > 0", f"[{message}]")
    return only_if(f"({bounded})", joined([of_variables, of_source]))
