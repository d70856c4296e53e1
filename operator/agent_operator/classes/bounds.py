"""What the bounds of a class refuse in a spec, determined in Python. `class_admission` has the same for the API server.

Both read the effective spec: a default of the class has to be within its bounds as a value of the agent.
"""

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from agent_operator.api.agent_class import AgentClassSpec
from agent_operator.api.spec import AgentSpec
from agent_operator.api.validation import Fault
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
    NO_BUDGET,
    OF_SETTINGS,
    OTHER_PRICES,
    SETTINGS,
    SHARES,
    TOO_LARGE,
    Check,
    Test,
    part_of,
)
from agent_operator.classes.defaults import WHOLE, block_of, document_of, provided, schema_default
from agent_operator.policy.fields import UnreadableError, mapping, matches, only, plain, roots, values

_AMOUNT = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE]([+-]?[0-9]{1,2})|([a-zA-Z]{0,2}))")
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {f"{prefix}i": 10 * power for power, prefix in enumerate("KMGTPE", start=1)}


def violations(spec: AgentSpec, given: AgentClassSpec) -> list[Fault]:
    """Return the fields of an effective spec that the class does not allow, each with a sentence naming the bound."""
    return _violations(document_of(spec), given)


def faults_of_defaults(given: AgentClassSpec) -> list[Fault]:
    """Return the defaults of a class that its own bounds refuse: agents without a value of their own are refused."""
    document, taken = provided(given)
    # All of this agent's budget is the class's.
    return of_class(_violations(document, given), taken, (*WHOLE, "budget"))


def of_class(faults: Sequence[Fault], taken: Collection[str], blocks: Sequence[str] = WHOLE) -> list[Fault]:
    """Return the faults of values that the class provided.

    Args:
        faults: the faults of an effective spec.
        taken: paths of the values of the class.
        blocks: blocks of which a part that is missing is a fault of the class, if it provided another one.
    """

    def is_of_class(path: str) -> bool:
        among = block_of(path, blocks)
        return any(each == path or each.startswith(f"{among}.") or path.startswith(f"{each}.") for each in taken)

    return [fault for fault in faults if is_of_class(fault.field.removeprefix("spec."))]


def _violations(document: Mapping[str, Any], given: AgentClassSpec) -> list[Fault]:
    bounds = given.bounds.model_dump(by_alias=True, exclude_none=True)
    faults = [fault for check in CHECKS for fault in _refused(document, bounds, check)]
    if "budget" in bounds:
        prices = given.defaults.get("budget", {}).get("prices")
        faults += _of_budget(document.get("budget"), bounds["budget"], prices)
    if any(name in bounds for name in OF_SETTINGS):
        faults += _of_variables(document)
    return list(dict.fromkeys(faults))


def _refused(document: Mapping[str, Any], bounds: Mapping[str, Any], check: Check) -> Iterator[Fault]:
    bound = only(bounds, check.bound.split("."))
    if bound is None:
        return
    if any(only(document, path.split(".")) != value for path, value in (check.when or {}).items()):
        return
    for root, rest in roots(document, check.path.split(".")):
        try:
            refused = _is_refused(root.value, rest, check, bound)
        except UnreadableError:
            refused = True
        if refused:
            yield Fault(plain(".".join([root.field, *rest])), check.explanation)


def _is_refused(root: Any, rest: Sequence[str], check: Check, bound: Any) -> bool:
    found = values(root, rest)
    if check.test == "required amount":
        part = part_of(".".join(rest))
        if part and not values(root, part.split(".")):
            return False
        amounts = mapping(found[0]) if found else {}
        return any(name not in amounts for name in bound) or _exceeds(amounts, bound)
    if not found:
        return check.present
    return any(_BREAKS[check.test](value, bound) for value in found)


def _is_below(image: str, registry: str) -> bool:
    """Return whether an image is in a registry, in a folder of it, or is that image with a tag or digest."""
    rest = image.removeprefix(registry)
    if not image.startswith(registry):
        return False
    return rest == "" or rest[0] == "/" or (rest[0] in ":@" and "/" not in rest)


def host_of(address: str) -> str:
    """Return the host of an address in lower case, without its port."""
    authority = address.split("://")[1].split("/", maxsplit=1)[0]
    return re.sub(r":[0-9]*$", "", authority).lower()


def _is_host(host: str, patterns: Sequence[str]) -> bool:
    return any(host == each or (each.startswith("*.") and host.endswith(each[1:])) for each in patterns)


def _exceeds(amounts: Mapping[str, Any], bound: Mapping[str, Any]) -> bool:
    return any(name in bound and amount(value) > amount(bound[name]) for name, value in amounts.items())


def amount(text: Any) -> Decimal:
    """Return the number that a quantity stands for (apimachinery, api/resource). Raises UnreadableError."""
    match = _AMOUNT.fullmatch(str(text)) if isinstance(text, str | int) else None
    if match is None:
        raise UnreadableError
    number, exponent, suffix = match.groups()
    if exponent is not None:
        return Decimal(number) * Decimal(10) ** int(exponent)
    if suffix in _BINARY:
        return Decimal(number) * Decimal(2) ** _BINARY[suffix]
    if suffix not in _DECIMAL:
        raise UnreadableError
    return Decimal(number) * Decimal(10) ** _DECIMAL[suffix]


# Whether a value breaks a bound, by the test that compares them.
_BREAKS: Mapping[Test, Callable[[Any, Any], bool]] = {
    "pattern": lambda value, bound: not matches(value, bound),
    "image": lambda value, bound: not any(_is_below(str(value), each) for each in bound),
    "address": lambda value, bound: not _is_host(host_of(value), bound),
    "resource": lambda value, bound: not _is_host(f"{value}{FOUNDRY_DOMAIN}", bound),
    "host": lambda value, bound: not _is_host(value, bound),
    "permitted": lambda value, bound: bool(value) and not bound,
    "at least": lambda value, bound: bool(value < bound),
    "at most": lambda value, bound: bool(value > bound),
    "amount": lambda value, bound: _exceeds(mapping(value), bound),
}


def _of_budget(budget: Any, bound: Mapping[str, Any], prices: Any) -> Iterator[Fault]:
    """Yield the faults of a budget."""
    if not isinstance(budget, Mapping):
        yield Fault("spec.budget", NO_BUDGET)
        return
    # Of a class alone, a budget lacks the defaults of the schema.
    period, action = (budget.get(name, schema_default(f"budget.{name}")) for name in ("period", "action"))
    times = DAYS if period == "day" else 1
    parts = {"": (budget, bound), **{f"{each}.": (budget.get(each, {}), bound.get(each, {})) for each in SHARES}}
    for part, (limits, most) in parts.items():
        for name, of_bound in BOUNDED_LIMITS:
            if of_bound not in most:
                continue
            if name not in limits:
                yield Fault(f"spec.budget.{part}{name}", NO_BUDGET)
            elif Decimal(limits[name]) * times > Decimal(most[of_bound]):
                yield Fault(f"spec.budget.{part}{name}", TOO_LARGE)
    if action != "stop":
        yield Fault("spec.budget.action", DOES_NOT_STOP)
    bounds_cost = any("costPerMonth" in most for _, most in parts.values())
    if bounds_cost and prices is not None and budget.get("prices") != prices:
        yield Fault("spec.budget.prices", OTHER_PRICES)


def _of_variables(document: Mapping[str, Any]) -> Iterator[Fault]:
    for variable in document.get(EXTRA_ENV, []):
        # The service reads its settings whatever their case.
        if variable["name"].upper().startswith(SETTINGS):
            yield Fault(f"spec.{EXTRA_ENV}[{variable['name']}]", BY_VARIABLE)
    if document.get(ENV_FROM):
        yield Fault(f"spec.{ENV_FROM}", BY_SOURCE)
