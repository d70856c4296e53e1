"""The sources of a volume of the pods (Kubernetes API reference: Volume).

Sources that Kubernetes has deprecated are not typed: they are passed on as written.
"""

from typing import Annotated, Any

from pydantic import ConfigDict, Field

from agent_operator.api.base import Model
from agent_operator.api.core_v1 import DnsLabel
from agent_operator.api.kubernetes.containers import AnyAmounts
from agent_operator.api.kubernetes.core import FieldSelector, LabelSelector, ResourceFieldSelector
from agent_operator.api.kubernetes.part import WHOLE, LongText, Number, Part, Text, Texts, listed
from agent_operator.api.rules import Rule


class KeyToPath(Part):
    """A key of an object, and the file that contains its value."""

    key: Text
    """The key."""
    path: Text
    """Path of the file in the volume."""
    mode: Number | None = None
    """Permissions of the file."""


Items = Annotated[list[KeyToPath], listed()]


class FileOfPod(Part):
    """A field of the pod, and the file that contains its value."""

    path: Text
    """Path of the file in the volume."""
    field_ref: FieldSelector | None = None
    """A field of the pod."""
    resource_field_ref: ResourceFieldSelector | None = None
    """An amount of a container's resources."""
    mode: Number | None = None
    """Permissions of the file."""


class _Keys(Part):
    items: Items | None = None
    """Keys that become files. Defaults to all keys."""
    optional: bool | None = None
    """Whether the object and its keys may be missing."""


class _Files(Part):
    default_mode: Number | None = None
    """Permissions of files that do not set their own."""


class ConfigMapProjection(_Keys):
    """The keys of a ConfigMap, as files."""

    name: Text | None = None
    """Name of the ConfigMap."""


class ConfigMapVolume(ConfigMapProjection, _Files):
    """The keys of a ConfigMap, as files."""


class SecretProjection(_Keys):
    """The keys of a Secret, as files."""

    name: Text | None = None
    """Name of the Secret."""


class SecretVolume(_Keys, _Files):
    """The keys of a Secret, as files."""

    secret_name: Text | None = None
    """Name of the Secret."""


class DownwardProjection(Part):
    """Fields of the pod, as files."""

    items: Annotated[list[FileOfPod], listed()] | None = None
    """Fields and their files."""


class DownwardVolume(DownwardProjection, _Files):
    """Fields of the pod, as files."""


class TokenProjection(Part):
    """A token of the ServiceAccount, as a file."""

    path: Text
    """Path of the file in the volume."""
    audience: Text | None = None
    """Audience of the token."""
    expiration_seconds: Annotated[int, Field(ge=0, le=2**32)] | None = None
    """Seconds for which the token is valid."""


class TrustBundleProjection(Part):
    """Certificates of a ClusterTrustBundle, as a file."""

    path: Text
    """Path of the file in the volume."""
    name: Text | None = None
    """Name of the bundle."""
    signer_name: Text | None = None
    """Signer whose bundles are used."""
    label_selector: LabelSelector | None = None
    """Bundles of the signer, selected by their labels."""
    optional: bool | None = None
    """Whether the bundle may be missing."""


class PodCertificateProjection(Part):
    """A key and a certificate of the pod, as files."""

    signer_name: Text
    """Signer of the certificate."""
    key_type: Text
    """Type of the key."""
    max_expiration_seconds: Number | None = None
    """Maximum number of seconds for which the certificate is valid."""
    credential_bundle_path: Text | None = None
    """Path of the file with the key and the certificates."""
    key_path: Text | None = None
    """Path of the file with the key."""
    certificate_chain_path: Text | None = None
    """Path of the file with the certificates."""
    user_annotations: Annotated[dict[str, LongText], Field(max_length=1000)] | None = None
    """Additional data for the signer."""


class Projection(Part):
    """One of the sources of a projected volume."""

    config_map: ConfigMapProjection | None = None
    """A ConfigMap."""
    secret: SecretProjection | None = None
    """A Secret."""
    downward_api: DownwardProjection | None = Field(default=None, alias="downwardAPI")
    """Fields of the pod."""
    service_account_token: TokenProjection | None = None
    """A token of the ServiceAccount."""
    cluster_trust_bundle: TrustBundleProjection | None = None
    """Trusted certificates."""
    pod_certificate: PodCertificateProjection | None = None
    """A key and a certificate of the pod."""


class ProjectedVolume(_Files):
    """Several sources in one folder."""

    sources: Annotated[list[Projection], listed()] | None = None
    """The sources."""


class EmptyDir(Part):
    """A folder with the lifetime of the pod."""

    medium: Text | None = None
    """Storage medium: `Memory` keeps the folder in memory."""


class HostPath(Part):
    """A path of the node."""

    path: Text
    """The path."""
    type: Text | None = None
    """Expected type of the path, such as `Directory`."""


class ClaimVolume(Part):
    """A PersistentVolumeClaim."""

    claim_name: Text
    """Name of the claim."""
    read_only: bool | None = None
    """Whether the volume is read-only."""


class NfsVolume(Part):
    """A folder of an NFS server."""

    server: Text
    """Name or address of the server."""
    path: Text
    """Path that the server exports."""
    read_only: bool | None = None
    """Whether the volume is read-only."""


class SecretName(Part):
    """A Secret."""

    name: Text | None = None
    """Name of the Secret."""


class CsiVolume(Part):
    """A volume of a CSI driver with the lifetime of the pod."""

    driver: Text
    """Name of the driver."""
    fs_type: Text | None = None
    """File system of the volume."""
    read_only: bool | None = None
    """Whether the volume is read-only."""
    volume_attributes: Annotated[dict[str, LongText], Field(max_length=1000)] | None = None
    """Settings of the driver."""
    node_publish_secret_ref: SecretName | None = None
    """Secret for the driver."""


class ImageVolume(Part):
    """The files of an image."""

    reference: Text | None = None
    """The image."""
    pull_policy: Text | None = None
    """When the image is pulled: `Always`, `IfNotPresent` or `Never`."""


class ClaimSource(Part):
    """Source of the initial content of a claim."""

    kind: Text
    """Kind of the object."""
    name: Text
    """Name of the object."""
    api_group: Text | None = None
    """API group of the object. Defaults to the core API."""


class ClaimSourceAnywhere(ClaimSource):
    """Source of the initial content of a claim, in any namespace."""

    namespace: Text | None = None
    """Namespace of the object. Defaults to the namespace of the claim."""


class ClaimResources(Part):
    """Size of a claim."""

    requests: AnyAmounts | None = None
    """Minimum size, as `storage`."""
    limits: AnyAmounts | None = None
    """Maximum size, as `storage`."""


class ClaimSpec(Part):
    """Specification of a claim."""

    access_modes: Texts | None = None
    """How the volume is mounted, such as `ReadWriteOnce`."""
    resources: ClaimResources | None = None
    """Size of the volume."""
    storage_class_name: Text | None = None
    """StorageClass of the volume."""
    volume_attributes_class_name: Text | None = None
    """VolumeAttributesClass of the volume."""
    volume_mode: Text | None = None
    """Mode of the volume: `Filesystem` or `Block`."""
    volume_name: Text | None = None
    """Name of the PersistentVolume."""
    selector: LabelSelector | None = None
    """Volumes that are considered, by their labels."""
    data_source: ClaimSource | None = None
    """Source of the initial content."""
    data_source_ref: ClaimSourceAnywhere | None = None
    """Source of the initial content, of any kind."""


class ClaimTemplate(Part):
    """A claim that is created for the pod."""

    spec: ClaimSpec
    """Specification of the claim."""
    metadata: Annotated[dict[str, Any], Field(json_schema_extra=WHOLE)] | None = None
    """Labels and annotations of the claim."""


class EphemeralVolume(Part):
    """A volume of a storage class with the lifetime of the pod."""

    volume_claim_template: ClaimTemplate | None = None
    """Template of the claim for the volume."""


class Volume(Model):
    """A volume of the pods, with its source as in the core API (`configMap`, `persistentVolumeClaim`, …)."""

    model_config = ConfigDict(extra="allow", json_schema_extra=WHOLE)

    rules = (
        Rule(
            cel="!(self.name in ['tmp', 'secrets'])",
            message="the volumes tmp and secrets are Portside's own: choose another name",
            holds=lambda volume: volume.name not in {"tmp", "secrets"},
            field="name",
        ),
    )

    name: DnsLabel
    """Name of the volume."""
    config_map: ConfigMapVolume | None = None
    """The keys of a ConfigMap, as files."""
    secret: SecretVolume | None = None
    """The keys of a Secret, as files."""
    projected: ProjectedVolume | None = None
    """Several sources in one folder."""
    downward_api: DownwardVolume | None = Field(default=None, alias="downwardAPI")
    """Fields of the pod, as files."""
    empty_dir: EmptyDir | None = None
    """A folder with the lifetime of the pod."""
    persistent_volume_claim: ClaimVolume | None = None
    """A PersistentVolumeClaim."""
    ephemeral: EphemeralVolume | None = None
    """A volume of a storage class with the lifetime of the pod."""
    csi: CsiVolume | None = None
    """A volume of a CSI driver with the lifetime of the pod."""
    image: ImageVolume | None = None
    """The files of an image."""
    host_path: HostPath | None = None
    """A path of the node."""
    nfs: NfsVolume | None = None
    """A folder of an NFS server."""
