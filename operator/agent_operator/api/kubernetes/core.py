"""Selectors, affinity, security contexts and sources of variables (Kubernetes API reference: core/v1)."""

from typing import Annotated

from agent_operator.api.kubernetes.part import Number, Part, Text, TextMap, Texts, listed


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
