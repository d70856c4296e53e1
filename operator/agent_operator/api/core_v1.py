"""Types of the core API that a spec embeds (Kubernetes API reference: PodSpec, Container, ObjectMeta).

They accept what the API server accepts. An invalid value is thus rejected where it was written, and not later in a
Deployment that the user does not inspect.
"""

import re
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from agent_operator.api.base import Model
from agent_operator.api.kubernetes.core import EnvVarSource
from agent_operator.api.kubernetes.part import AsWritten
from agent_operator.api.rules import Rule

# apimachinery, api/resource/quantity.go, without a sign: no amount here can be negative.
QUANTITY = r"^([0-9]+(\.[0-9]*)?|\.[0-9]+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]{1,2})?$"
# apimachinery, util/validation: qualified name (an optional DNS subdomain, a slash, a name) and label value.
QUALIFIED_NAME = (
    r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?"
    r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$"
)
LABEL_VALUE = r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$"
DNS_SUBDOMAIN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"

DNS_LABEL = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"

# The default security settings of a container that the user provides: they meet the restricted Pod Security Standard.
HARDENED: dict[str, Any] = {
    "runAsNonRoot": True,
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}

MAX_KEY = 317  # a DNS subdomain of 253, a slash, a name of 63

_QuantityText = Annotated[str, StringConstraints(pattern=QUANTITY, max_length=32)]
Quantity = Annotated[_QuantityText | Annotated[int, Field(ge=0)], Field()]
"""A quantity in Kubernetes notation: "250m", "512Mi", 2."""

Percentage = Annotated[str, StringConstraints(pattern=r"^(100|[1-9]?[0-9])%$", max_length=4)]
PodCount = Percentage | Annotated[int, Field(ge=0, le=1000)]
"""A number of pods, or a percentage of them such as "25%"."""


def keys_of_form(pattern: str, sentence: str) -> Rule:
    compiled = re.compile(pattern.removesuffix("$") + r"\Z")
    return Rule(
        cel=f"self.all(key, key.size() <= {MAX_KEY} && key.matches('{pattern.replace(chr(92), chr(92) * 2)}'))",
        message=sentence,
        holds=lambda mapping: all(len(key) <= MAX_KEY and compiled.match(key) for key in mapping),
    )


QUALIFIED_KEYS = keys_of_form(
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


ObjectName = Annotated[str, StringConstraints(pattern=DNS_SUBDOMAIN, min_length=1, max_length=253)]
DataKey = Annotated[str, StringConstraints(pattern=r"^[-._a-zA-Z0-9]+$", min_length=1, max_length=253)]
"""Key in the data of a Secret or ConfigMap."""
DnsLabel = Annotated[str, StringConstraints(pattern=DNS_LABEL, min_length=1, max_length=63)]


class ObjectReference(Model):
    """The name of an object in the same namespace."""

    name: ObjectName
    """Name of the object."""


class KeyReference(Model):
    """A key of an object in the same namespace."""

    name: ObjectName
    """Name of the object."""
    key: DataKey
    """Key in the data of the object."""


class Resources(Model):
    """Compute resources of the container. A value set here replaces the entire default."""

    requests: Amounts | None = None
    """Resources that the pod is guaranteed and scheduled by: amounts by resource name, such as `cpu: 100m`."""
    limits: Amounts | None = None
    """Maximum resources that the pod may use: amounts by resource name, such as `memory: 512Mi`."""


class Toleration(Model):
    """A node taint that the pods tolerate."""

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
    """Key of the taint. If unset, every key matches."""
    operator: Literal["Exists", "Equal"] | None = None
    """How the key is compared: `Equal` (the value must match too; the Kubernetes default) or `Exists` (any value
    matches)."""
    value: LabelValue | None = None
    """Value of the taint, for operator `Equal`."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """Effect of the taint. If unset, every effect matches."""
    toleration_seconds: Annotated[int, Field(ge=0, le=2_147_483_647)] | None = None
    """Seconds that a pod stays on a node tainted `NoExecute`. If unset, the pod stays indefinitely."""


class EnvVar(Model):
    """An environment variable of the container."""

    rules = (
        Rule(
            cel="!(has(self.value) && has(self.valueFrom))",
            message="a variable has value or valueFrom, not both: remove one of them",
            holds=lambda variable: variable.value is None or variable.value_from is None,
            field="value",
        ),
    )

    name: Annotated[str, StringConstraints(pattern=r"^[-._a-zA-Z][-._a-zA-Z0-9]*$", min_length=1, max_length=253)]
    """Name of the variable."""
    value: Annotated[str, StringConstraints(pattern=r"^[^\x00]*$", max_length=20_000)] | None = None
    """Value of the variable."""
    value_from: Annotated[dict[str, Any], AsWritten(EnvVarSource)] | None = None
    """Source of the value: `secretKeyRef`, `configMapKeyRef`, `fieldRef` or `resourceFieldRef`."""


class EnvSource(Model):
    """A ConfigMap or Secret whose keys all become environment variables of the container."""

    rules = (
        Rule(
            cel="has(self.configMapRef) != has(self.secretRef)",
            message="set exactly one of configMapRef and secretRef",
            holds=lambda source: (source.config_map_ref is None) != (source.secret_ref is None),
        ),
    )

    prefix: Annotated[str, StringConstraints(pattern=r"^[-._a-zA-Z][-._a-zA-Z0-9]*$", max_length=128)] | None = None
    """Prefix added to each key."""
    config_map_ref: ObjectReference | None = None
    """The ConfigMap."""
    secret_ref: ObjectReference | None = None
    """The Secret."""


class VolumeMount(Model):
    """A volume that is mounted in the agent's container."""

    rules = (
        Rule(
            cel="!(self.mountPath in ['/tmp', '/etc/portside/secrets'])",
            message="the folders /tmp and /etc/portside/secrets are mounted by Portside: choose another mountPath",
            holds=lambda mount: mount.mount_path not in {"/tmp", "/etc/portside/secrets"},  # noqa: S108  in the pod
            field="mountPath",
        ),
    )

    name: DnsLabel
    """Name of the volume."""
    mount_path: Annotated[str, StringConstraints(pattern=r"^/[^:\x00]*$", max_length=1024)]
    """Path at which the volume is mounted."""
    sub_path: Annotated[str, StringConstraints(pattern=r"^[^/\x00][^\x00]*$", max_length=1024)] | None = None
    """Path inside the volume."""
    read_only: bool | None = None
    """Whether the mount is read-only."""


class SpreadConstraint(Model):
    """A topology spread constraint for the agent's pods. It counts the pods of the agent."""

    max_skew: Annotated[int, Field(ge=1, le=1000)] = 1
    """Maximum difference in the number of pods between two topology domains."""
    topology_key: Annotated[str, StringConstraints(pattern=QUALIFIED_NAME, min_length=1, max_length=MAX_KEY)]
    """Node label that identifies the topology domains, such as `topology.kubernetes.io/zone`."""
    when_unsatisfiable: Literal["ScheduleAnyway", "DoNotSchedule"] = "ScheduleAnyway"
    """What happens if the constraint cannot be satisfied."""
