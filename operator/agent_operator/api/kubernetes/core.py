"""Parts of Kubernetes' own API that a spec passes on as they are written.

What is known of them is checked, so that a value of the wrong type is refused where it was written. What is not known
is kept: newer API servers have more fields, and they judge what the values mean.
"""

from typing import Annotated, Any

from pydantic import ConfigDict, Field, GetCoreSchemaHandler, StringConstraints
from pydantic_core import CoreSchema, core_schema

from agent_operator.api.base import Model

# A field manager owns it as a whole: else the managed fields of the object would repeat each level of it, and an object
# that is just within the API server's depth of 10,000 would be stored beyond it, where no list can be decoded again.
WHOLE: dict[str, Any] = {"x-kubernetes-map-type": "atomic"}
ATOMIC: dict[str, Any] = {"x-kubernetes-list-type": "atomic"}


def listed() -> Any:
    """Return the bounds of a list that has one owner."""
    return Field(max_length=1000, json_schema_extra=ATOMIC)


Text = Annotated[str, StringConstraints(max_length=4096)]
# Linux starts no program with a longer argument or variable (MAX_ARG_STRLEN).
LongText = Annotated[str, StringConstraints(max_length=131_072)]
Texts = Annotated[list[Text], listed()]
TextMap = Annotated[dict[str, Text], Field(max_length=1000)]
# Kubernetes has 64 bits for a user or a group, and takes those of this range (apimachinery, IsValidUserID).
Number = Annotated[int, Field(ge=0, le=2**31 - 1)]
NumberOrText = Annotated[Text | Number, Field()]


class Part(Model):
    """A part of Kubernetes' API, with further fields."""

    model_config = ConfigDict(extra="allow", json_schema_extra=WHOLE)


class AsWritten:
    """In `Annotated[dict[str, Any], AsWritten(Model)]`: checked as the model, and kept as it was written."""

    def __init__(self, model: type[Part]) -> None:
        self._model = model

    def __get_pydantic_core_schema__(self, _: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        def keep(value: Any, check: core_schema.ValidatorFunctionWrapHandler) -> Any:
            check(value)
            return value

        kept = core_schema.plain_serializer_function_ser_schema(lambda value: value)
        return core_schema.no_info_wrap_validator_function(
            keep, handler.generate_schema(self._model), serialization=kept
        )


class SelectorRequirement(Part):
    """A requirement of a selector."""

    key: Text
    """Key of the label."""
    operator: Text
    """`In`, `NotIn`, `Exists`, `DoesNotExist`, and for nodes `Gt` and `Lt`."""
    values: Texts | None = None
    """Values for the operator."""


Requirements = Annotated[list[SelectorRequirement], listed()]


class LabelSelector(Part):
    """A selector of objects by their labels."""

    match_labels: TextMap | None = None
    """Labels that an object must have."""
    match_expressions: Requirements | None = None
    """Requirements that an object must meet."""


class NodeSelectorTerm(Part):
    """Requirements that a node must meet, all of them."""

    match_expressions: Requirements | None = None
    """Requirements on its labels."""
    match_fields: Requirements | None = None
    """Requirements on its fields."""


NodeSelectorTerms = Annotated[list[NodeSelectorTerm], listed()]


class NodeSelector(Part):
    """Which nodes."""

    node_selector_terms: NodeSelectorTerms
    """Terms of which a node must meet one."""


class PreferredNodes(Part):
    """Nodes that are preferred."""

    weight: Number
    """Weight of the preference, from 1 to 100."""
    preference: NodeSelectorTerm
    """Which nodes."""


class NodeAffinity(Part):
    """Which nodes the pods keep to."""

    required_during_scheduling_ignored_during_execution: NodeSelector | None = None
    """Nodes that the pods must be on."""
    preferred_during_scheduling_ignored_during_execution: Annotated[list[PreferredNodes], listed()] | None = None
    """Nodes that the pods prefer."""


class PodAffinityTerm(Part):
    """Other pods, and how near they are."""

    topology_key: Text
    """Label of nodes that says what is near."""
    label_selector: LabelSelector | None = None
    """Which pods, by their labels."""
    namespace_selector: LabelSelector | None = None
    """Namespaces of the pods, by their labels."""
    namespaces: Texts | None = None
    """Namespaces of the pods, by name."""
    match_label_keys: Texts | None = None
    """Labels that must be as those of the pod itself."""
    mismatch_label_keys: Texts | None = None
    """Labels that must not be as those of the pod itself."""


PodAffinityTerms = Annotated[list[PodAffinityTerm], listed()]


class WeightedPodAffinityTerm(Part):
    """Other pods that are preferred near, or far."""

    weight: Number
    """Weight of the preference, from 1 to 100."""
    pod_affinity_term: PodAffinityTerm
    """Which pods."""


WeightedTerms = Annotated[list[WeightedPodAffinityTerm], listed()]


class PodAffinity(Part):
    """Which other pods the pods keep to, or from."""

    required_during_scheduling_ignored_during_execution: PodAffinityTerms | None = None
    """What must hold."""
    preferred_during_scheduling_ignored_during_execution: WeightedTerms | None = None
    """What is preferred."""


class Affinity(Part):
    """Which nodes and which other pods the pods keep to or from."""

    node_affinity: NodeAffinity | None = None
    """Which nodes the pods keep to."""
    pod_affinity: PodAffinity | None = None
    """Which other pods the pods keep to."""
    pod_anti_affinity: PodAffinity | None = None
    """Which other pods the pods keep from."""


class Profile(Part):
    """A profile of seccomp or AppArmor."""

    type: Text
    """`RuntimeDefault`, `Localhost` or `Unconfined`."""
    localhost_profile: Text | None = None
    """Name of the profile, for `Localhost`."""


class SELinuxOptions(Part):
    """A context of SELinux."""

    level: Text | None = None
    """Its level."""
    role: Text | None = None
    """Its role."""
    type: Text | None = None
    """Its type."""
    user: Text | None = None
    """Its user."""


class Capabilities(Part):
    """Capabilities of the processes."""

    add: Texts | None = None
    """Capabilities that are added."""
    drop: Texts | None = None
    """Capabilities that are dropped."""


class _AnySecurityContext(Part):
    run_as_user: Number | None = None
    """User that the processes run as."""
    run_as_group: Number | None = None
    """Group that the processes run as."""
    run_as_non_root: bool | None = None
    """Whether root is refused."""
    seccomp_profile: Profile | None = None
    """Profile of seccomp."""
    app_armor_profile: Profile | None = None
    """Profile of AppArmor."""
    se_linux_options: SELinuxOptions | None = None
    """Context of SELinux."""


class PodSecurityContext(_AnySecurityContext):
    """Security settings of pods."""

    fs_group: Number | None = None
    """Group that owns the volumes."""
    fs_group_change_policy: Text | None = None
    """When the owner of a volume is changed: `OnRootMismatch` or `Always`."""
    supplemental_groups: Annotated[list[Number], listed()] | None = None
    """Further groups of the processes."""
    supplemental_groups_policy: Text | None = None
    """How further groups are found: `Merge` or `Strict`."""


class SecurityContext(_AnySecurityContext):
    """Security settings of a container."""

    allow_privilege_escalation: bool | None = None
    """Whether a process may gain more privileges than its parent."""
    capabilities: Capabilities | None = None
    """Capabilities of the processes."""
    privileged: bool | None = None
    """Whether the container is as root on the node."""
    proc_mount: Text | None = None
    """How /proc is mounted."""
    read_only_root_filesystem: bool | None = None
    """Whether the root file system cannot be written to."""


class IPBlock(Part):
    """A range of addresses."""

    cidr: Text
    """The range, such as 10.0.0.0/8."""
    except_: Texts | None = Field(default=None, alias="except")
    """Ranges in it that are left out."""


class NetworkPolicyPeer(Part):
    """Who is let in, or out to."""

    ip_block: IPBlock | None = None
    """A range of addresses."""
    namespace_selector: LabelSelector | None = None
    """Namespaces, by their labels."""
    pod_selector: LabelSelector | None = None
    """Pods, by their labels."""


class NetworkPolicyPort(Part):
    """A port, or several."""

    port: NumberOrText | None = None
    """Number or name of the port."""
    end_port: Number | None = None
    """Last number, where there are several."""
    protocol: Text | None = None
    """`TCP`, `UDP` or `SCTP`."""


class NetworkPolicyEgressRule(Part):
    """What the pods may reach."""

    ports: Annotated[list[NetworkPolicyPort], listed()] | None = None
    """Which ports; all when not set."""
    to: Annotated[list[NetworkPolicyPeer], listed()] | None = None
    """Whom; everybody when not set."""


class KeySelector(Part):
    """A key of an object."""

    name: Text | None = None
    """Name of the object."""
    key: Text
    """Key in its data."""
    optional: bool | None = None
    """Whether it may be missing."""


class FieldSelector(Part):
    """A field of the pod."""

    field_path: Text
    """Path of the field, such as `metadata.name`."""


class ResourceFieldSelector(Part):
    """An amount of a container's resources."""

    container_name: Text | None = None
    """Name of the container."""
    resource: Text
    """Which amount, such as `limits.memory`."""


class EnvVarSource(Part):
    """Where the value of a variable comes from."""

    secret_key_ref: KeySelector | None = None
    """A key of a Secret."""
    config_map_key_ref: KeySelector | None = None
    """A key of a ConfigMap."""
    field_ref: FieldSelector | None = None
    """A field of the pod."""
    resource_field_ref: ResourceFieldSelector | None = None
    """An amount of a container's resources."""


class ScalingPolicy(Part):
    """How many pods may come or go in a period."""

    type: Text
    """`Pods` or `Percent`."""
    value: Number
    """How many."""
    period_seconds: Number
    """Length of the period in seconds."""


class ScalingRules(Part):
    """How fast pods come, or go."""

    select_policy: Text | None = None
    """`Max`, `Min` or `Disabled`."""
    stabilization_window_seconds: Number | None = None
    """Seconds of past recommendations that count."""
    policies: Annotated[list[ScalingPolicy], listed()] | None = None
    """Policies, of which one is selected."""


class ScalingBehavior(Part):
    """How fast pods are added and removed."""

    scale_up: ScalingRules | None = None
    """How fast they are added."""
    scale_down: ScalingRules | None = None
    """How fast they are removed."""
