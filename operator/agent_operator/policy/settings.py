"""The settings of a policy: `policies.allow` of the operator's chart, which is generated from this model."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field, StringConstraints, ValidationError

from agent_operator.api.base import Model
from agent_operator.api.validation import faults_of

# A whole value, or the beginning of one and `*`. Without commas, as a ConfigMap has a list as one text, and without
# what has a meaning in a text of CEL.
Pattern = Annotated[str, StringConstraints(pattern=r"^([-!#-&()+.-\[\]-~]+\*?|\*)$", min_length=1, max_length=512)]
Patterns = Annotated[list[Pattern], Field(max_length=64)]
Ports = Annotated[list[Annotated[int, Field(ge=1, le=65535)]], Field(max_length=64)]

_TRUTHS: Mapping[Any, Any] = {"true": True, "false": False}


class Policy(Model):
    """What AgentDeployments may ask for. A list takes whole values, or beginnings that end with `*`."""

    ingresses: bool = False
    """Whether agents may have an Ingress: any host and path, with any TLS Secret of their namespace."""
    http_routes: bool = False
    """Whether agents may have an HTTPRoute."""
    load_balancers: bool = False
    """Whether the Service of an agent may be of type LoadBalancer."""
    node_ports: bool = False
    """Whether the Service of an agent may be of type NodePort."""
    network_policies: bool = True
    """Whether agents may have a NetworkPolicy, which adds to what other policies of the namespace let through. If not,
    each agent has to set networkPolicy.enabled to false."""
    extra_egress: bool = False
    """Whether that NetworkPolicy may have networkPolicy.extraEgress."""
    egress_ports: Ports = [443, 4318, 6379]  # noqa: RUF012  pydantic copies it
    """Ports that it may open, to any address, for addresses in the spec (baseUrl, redis, tracing)."""
    service_monitors: bool = False
    """Whether agents may have a ServiceMonitor."""
    prometheus_addresses: Patterns = []  # noqa: RUF012
    """Addresses that agents may have KEDA query (autoscaling.prometheusAddress)."""
    drain_blocking: bool = False
    """Whether a PodDisruptionBudget may keep nodes from being drained: minAvailable, or maxUnavailable 0."""
    service_account_names: Patterns = []  # noqa: RUF012
    """ServiceAccounts that agents may name (serviceAccount.name). One without a name is the agent's own."""
    service_account_annotations: Patterns = []  # noqa: RUF012
    """Keys of annotations that agents may set on their ServiceAccount, by which clouds grant roles."""
    service_account_tokens: bool = False
    """Whether projected volumes may hold a token or certificate of the ServiceAccount."""
    service_annotations: Patterns = []  # noqa: RUF012
    """Keys of annotations that agents may set on their Service."""
    ingress_annotations: Patterns = []  # noqa: RUF012
    """Keys of annotations that agents may set on their Ingress."""
    http_route_annotations: Patterns = []  # noqa: RUF012
    """Keys of annotations that agents may set on their HTTPRoute."""
    pod_annotations: Patterns = []  # noqa: RUF012
    """Keys of annotations that agents may set on their pods."""
    pod_labels: Patterns = []  # noqa: RUF012
    """Keys of labels that agents may set on their pods, which webhooks and other Services select by."""
    priority_class_names: Patterns = []  # noqa: RUF012
    """PriorityClasses that agents may name."""
    volume_types: Patterns = [  # noqa: RUF012
        "configMap",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "persistentVolumeClaim",
        "projected",
        "secret",
    ]
    """Types of volumes that agents may add."""
    privileges: bool = False
    """Whether containers may have what the Pod Security Standard baseline refuses: privileged mode, capabilities,
    host ports, unconfined profiles, sysctls, SELinux options, hosts in probes and hooks."""

    def by_name(self) -> dict[str, bool | list[str]]:
        """Return the settings by their names in the chart; the entries of lists are texts."""
        settings = self.model_dump(by_alias=True)
        return {name: list(map(str, each)) if isinstance(each, list) else each for name, each in settings.items()}


class PolicyError(ValueError):
    """A policy that cannot be read. The message has the place and the reason."""


def load(path: Path) -> Policy:
    """Read a policy from a YAML file, or from the folder as which a ConfigMap is mounted (a file for each setting).

    The file holds the settings, or the ConfigMap of the chart. What is not set is refused, as the chart's defaults have
    it. Raises PolicyError.
    """
    try:
        document = _folder(path) if path.is_dir() else yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise PolicyError(f"The policy {path} cannot be read: {type(error).__name__}") from error
    if isinstance(document, Mapping) and document.get("kind") == "ConfigMap":
        document = document.get("data")
    if not isinstance(document, Mapping):
        raise PolicyError(f"The policy {path} holds no settings: write them as `policies.allow` of the chart has them")
    try:
        return Policy.model_validate({key: _value(key, value) for key, value in document.items()})
    except ValidationError as error:
        faults = "; ".join(map(str, faults_of(error, "policies.allow")))
        raise PolicyError(f"The policy {path} is not valid: {faults}") from error


def _folder(path: Path) -> dict[str, str]:
    # The kubelet keeps its own links there, under names with dots.
    files = [each for each in sorted(path.iterdir()) if not each.name.startswith(".")]
    return {each.name: each.read_text(encoding="utf-8") for each in files}


_LISTS = {info.alias or name for name, info in Policy.model_fields.items() if isinstance(info.get_default(), list)}


def _value(key: Any, value: Any) -> Any:
    """A setting as a ConfigMap has it, in the type that it stands for."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    if key not in _LISTS:
        return _TRUTHS.get(text, value)
    entries = [entry for entry in text.split(",") if entry]
    return [int(entry) if key == "egressPorts" and entry.isdecimal() else entry for entry in entries]
