"""The shapes of the core API that a spec embeds (Kubernetes API reference: PodSpec, Container, ObjectMeta).

They hold what the API server would accept, so that a wrong value is refused where it was written, not later on a
Deployment that nobody looks at.
"""

import re
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from agent_operator.api.base import Model
from agent_operator.api.rules import Rule

# apimachinery, api/resource/quantity.go, without the sign: nothing here can be negative.
QUANTITY = r"^([0-9]+(\.[0-9]*)?|\.[0-9]+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]{1,2})?$"
# apimachinery, util/validation: qualified name (an optional DNS subdomain, a slash, a name) and label value.
QUALIFIED_NAME = (
    r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?"
    r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$"
)
LABEL_VALUE = r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$"
DNS_SUBDOMAIN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"

MAX_KEY = 317  # a DNS subdomain of 253, a slash, a name of 63

_QuantityText = Annotated[str, StringConstraints(pattern=QUANTITY, max_length=32)]
Quantity = Annotated[_QuantityText | Annotated[int, Field(ge=0)], Field()]
"""An amount as Kubernetes writes it: "250m", "512Mi", 2."""

Percentage = Annotated[str, StringConstraints(pattern=r"^(100|[1-9]?[0-9])%$", max_length=4)]
PodCount = Percentage | Annotated[int, Field(ge=0, le=1000)]
"""A number of pods, or a share of them such as "25%"."""


def _keys(pattern: str, sentence: str) -> Rule:
    compiled = re.compile(pattern.removesuffix("$") + r"\Z")
    return Rule(
        cel=f"self.all(key, key.size() <= {MAX_KEY} && key.matches('{pattern.replace(chr(92), chr(92) * 2)}'))",
        message=sentence,
        holds=lambda mapping: all(len(key) <= MAX_KEY and compiled.match(key) for key in mapping),
    )


QUALIFIED_KEYS = _keys(
    QUALIFIED_NAME,
    "each key must be a qualified name: letters, digits, '-', '_' and '.', with an optional prefix like 'example.com/'",
)
NOT_OURS = Rule(
    cel="!self.exists(key, key.startsWith('app.kubernetes.io/'))",
    message="labels under app.kubernetes.io/ are set by Portside: choose another prefix",
    holds=lambda mapping: not any(key.startswith("app.kubernetes.io/") for key in mapping),
)

LabelValue = Annotated[str, StringConstraints(pattern=LABEL_VALUE, max_length=63)]
Labels = Annotated[dict[str, LabelValue], Field(max_length=32), QUALIFIED_KEYS]
PodLabels = Annotated[dict[str, LabelValue], Field(max_length=32), QUALIFIED_KEYS, NOT_OURS]
Annotations = Annotated[
    dict[str, Annotated[str, StringConstraints(max_length=4096)]], Field(max_length=32), QUALIFIED_KEYS
]
Amounts = Annotated[dict[str, Quantity], Field(max_length=16), QUALIFIED_KEYS]


class ObjectReference(Model):
    """The name of an object in the same namespace."""

    name: Annotated[str, StringConstraints(pattern=DNS_SUBDOMAIN, min_length=1, max_length=253)]
    """Name of the object."""


class Resources(Model):
    """Compute resources of the container. What is set here replaces the default as a whole."""

    requests: Amounts | None = None
    """What the pod is promised, and scheduled by: amounts by resource name, such as `cpu: 100m`."""
    limits: Amounts | None = None
    """What the pod may use at most: amounts by resource name, such as `memory: 512Mi`."""


class Toleration(Model):
    """A taint of a node that the pods put up with."""

    rules = (
        Rule(
            cel="!has(self.operator) || self.operator != 'Exists' || !has(self.value)",
            message="a toleration with operator Exists takes no value: remove `value`, or use operator Equal",
            holds=lambda toleration: toleration.operator != "Exists" or toleration.value is None,
            field="value",
        ),
        Rule(
            cel="has(self.key) || (has(self.operator) && self.operator == 'Exists')",
            message="a toleration without a key needs operator Exists: set `key`, or `operator: Exists`",
            holds=lambda toleration: toleration.key is not None or toleration.operator == "Exists",
            field="operator",
        ),
        Rule(
            cel="!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')",
            message="tolerationSeconds needs effect NoExecute: set `effect: NoExecute`, or remove `tolerationSeconds`",
            holds=lambda toleration: toleration.toleration_seconds is None or toleration.effect == "NoExecute",
            field="tolerationSeconds",
        ),
    )

    key: Annotated[str, StringConstraints(pattern=QUALIFIED_NAME, max_length=MAX_KEY)] | None = None
    """Key of the taint; every key when not set."""
    operator: Literal["Exists", "Equal"] | None = None
    """How the key is compared: `Equal` (the value too, and the default of Kubernetes) or `Exists` (any value)."""
    value: LabelValue | None = None
    """Value of the taint, for operator `Equal`."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """Effect of the taint; every effect when not set."""
    toleration_seconds: Annotated[int, Field(ge=0, le=2_147_483_647)] | None = None
    """Seconds that a pod stays on a node tainted `NoExecute`; for ever when not set."""
