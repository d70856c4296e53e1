"""Selectors, affinity, security contexts and sources of variables (Kubernetes API reference: core/v1)."""

from typing import Annotated

from agent_operator.api.kubernetes.part import Number, Part, Text, TextMap, Texts, listed


class SelectorRequirement(Part):
    """A requirement of a selector."""

    key: Text
    """Key of the label."""
    operator: Text
    """Operator: `In`, `NotIn`, `Exists` or `DoesNotExist`; for nodes also `Gt` and `Lt`."""
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
    """Requirements, all of which a node must meet."""

    match_expressions: Requirements | None = None
    """Requirements on the labels of the node."""
    match_fields: Requirements | None = None
    """Requirements on the fields of the node."""


NodeSelectorTerms = Annotated[list[NodeSelectorTerm], listed()]


class NodeSelector(Part):
    """A selector of nodes."""

    node_selector_terms: NodeSelectorTerms
    """Terms, at least one of which a node must meet."""


class PreferredNodes(Part):
    """Nodes that are preferred."""

    weight: Number
    """Weight of the preference, from 1 to 100."""
    preference: NodeSelectorTerm
    """The preferred nodes."""


class NodeAffinity(Part):
    """Node affinity of the pods."""

    required_during_scheduling_ignored_during_execution: NodeSelector | None = None
    """Nodes that the pods must be on."""
    preferred_during_scheduling_ignored_during_execution: Annotated[list[PreferredNodes], listed()] | None = None
    """Nodes that the pods prefer."""


class PodAffinityTerm(Part):
    """Other pods, and the topology domain in which they count as near."""

    topology_key: Text
    """Node label that defines which pods are near."""
    label_selector: LabelSelector | None = None
    """The pods, by their labels."""
    namespace_selector: LabelSelector | None = None
    """Namespaces of the pods, by their labels."""
    namespaces: Texts | None = None
    """Namespaces of the pods, by name."""
    match_label_keys: Texts | None = None
    """Labels whose values must equal those of the pod itself."""
    mismatch_label_keys: Texts | None = None
    """Labels whose values must differ from those of the pod itself."""


PodAffinityTerms = Annotated[list[PodAffinityTerm], listed()]


class WeightedPodAffinityTerm(Part):
    """Other pods that are preferred nearby, or far away."""

    weight: Number
    """Weight of the preference, from 1 to 100."""
    pod_affinity_term: PodAffinityTerm
    """The other pods."""


WeightedTerms = Annotated[list[WeightedPodAffinityTerm], listed()]


class PodAffinity(Part):
    """Other pods that the pods are scheduled near, or away from."""

    required_during_scheduling_ignored_during_execution: PodAffinityTerms | None = None
    """Terms that must be met."""
    preferred_during_scheduling_ignored_during_execution: WeightedTerms | None = None
    """Terms that are preferred."""


class Affinity(Part):
    """Scheduling constraints relative to nodes and other pods."""

    node_affinity: NodeAffinity | None = None
    """Node affinity of the pods."""
    pod_affinity: PodAffinity | None = None
    """Other pods that the pods are scheduled near."""
    pod_anti_affinity: PodAffinity | None = None
    """Other pods that the pods are kept away from."""


class Profile(Part):
    """A seccomp or AppArmor profile."""

    type: Text
    """Type of the profile: `RuntimeDefault`, `Localhost` or `Unconfined`."""
    localhost_profile: Text | None = None
    """Name of the profile, for `Localhost`."""


class SELinuxOptions(Part):
    """An SELinux context."""

    level: Text | None = None
    """Level of the context."""
    role: Text | None = None
    """Role of the context."""
    type: Text | None = None
    """Type of the context."""
    user: Text | None = None
    """User of the context."""


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
    """Whether the processes must not run as root."""
    seccomp_profile: Profile | None = None
    """The seccomp profile."""
    app_armor_profile: Profile | None = None
    """The AppArmor profile."""
    se_linux_options: SELinuxOptions | None = None
    """The SELinux context."""


class PodSecurityContext(_AnySecurityContext):
    """Security settings of pods."""

    fs_group: Number | None = None
    """Group that owns the volumes."""
    fs_group_change_policy: Text | None = None
    """When the owner of a volume is changed: `OnRootMismatch` or `Always`."""
    supplemental_groups: Annotated[list[Number], listed()] | None = None
    """Additional groups of the processes."""
    supplemental_groups_policy: Text | None = None
    """How additional groups are determined: `Merge` or `Strict`."""


class SecurityContext(_AnySecurityContext):
    """Security settings of a container."""

    allow_privilege_escalation: bool | None = None
    """Whether a process may gain more privileges than its parent."""
    capabilities: Capabilities | None = None
    """Capabilities of the processes."""
    privileged: bool | None = None
    """Whether the container has the rights of root on the node."""
    proc_mount: Text | None = None
    """How /proc is mounted."""
    read_only_root_filesystem: bool | None = None
    """Whether the root file system is read-only."""


class KeySelector(Part):
    """A key of an object."""

    name: Text | None = None
    """Name of the object."""
    key: Text
    """Key in the data of the object."""
    optional: bool | None = None
    """Whether the object or its key may be missing."""


class FieldSelector(Part):
    """A field of the pod."""

    field_path: Text
    """Path of the field, such as `metadata.name`."""


class ResourceFieldSelector(Part):
    """An amount of a container's resources."""

    container_name: Text | None = None
    """Name of the container."""
    resource: Text
    """Name of the amount, such as `limits.memory`."""


class EnvVarSource(Part):
    """Source of the value of a variable."""

    secret_key_ref: KeySelector | None = None
    """A key of a Secret."""
    config_map_key_ref: KeySelector | None = None
    """A key of a ConfigMap."""
    field_ref: FieldSelector | None = None
    """A field of the pod."""
    resource_field_ref: ResourceFieldSelector | None = None
    """An amount of a container's resources."""
