"""The settings of a policy: `policies.allow` of the operator's chart, which is generated from this model."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field, StringConstraints, ValidationError

from agent_operator.api.base import Model
from agent_operator.api.validation import faults_of

# A whole value, or a prefix followed by `*`. Commas are excluded, because a ConfigMap stores a list as one string.
# Characters with a special meaning in a CEL string are excluded too.
Pattern = Annotated[str, StringConstraints(pattern=r"^([-!#-&()+.-\[\]-~]+\*?|\*)$", min_length=1, max_length=512)]
Patterns = Annotated[list[Pattern], Field(max_length=64)]
Ports = Annotated[list[Annotated[int, Field(ge=1, le=65535)]], Field(max_length=64)]

_TRUTHS: Mapping[Any, Any] = {"true": True, "false": False}


class Policy(Model):
    """What AgentDeployments may request. A list contains whole values, or prefixes that end with `*`."""

    ingresses: bool = False
    """Whether agents may have an Ingress, with any host, any path and any TLS Secret of their namespace."""
    http_routes: bool = False
    """Whether agents may have an HTTPRoute."""
    load_balancers: bool = False
    """Whether the Service of an agent may be of type LoadBalancer."""
    node_ports: bool = False
    """Whether the Service of an agent may be of type NodePort."""
    network_policies: bool = True
    """Whether agents may have a NetworkPolicy, which allows traffic in addition to the namespace's other policies.
    If not, each agent must set networkPolicy.enabled to false."""
    extra_egress: bool = False
    """Whether the NetworkPolicy may have rules from networkPolicy.extraEgress."""
    egress_ports: Ports = [443, 4318, 6379]  # noqa: RUF012  pydantic copies it
    """Ports that the NetworkPolicy may open for addresses in the spec (baseUrl, tokenUrl, redis, tracing, tools), to
    any address or, for tools in the cluster, to their namespace."""
    service_monitors: bool = False
    """Whether agents may have a ServiceMonitor."""
    prometheus_addresses: Patterns = []  # noqa: RUF012
    """Addresses that agents may let KEDA query (autoscaling.prometheusAddress)."""
    drain_blocking: bool = False
    """Whether a PodDisruptionBudget may prevent nodes from being drained: by minAvailable, or by maxUnavailable 0."""
    service_account_names: Patterns = []  # noqa: RUF012
    """ServiceAccounts that agents may name (serviceAccount.name). Without a name, the agent uses its own."""
    service_account_annotations: Patterns = []  # noqa: RUF012
    """Keys of annotations that agents may set on their ServiceAccount. Cloud providers grant roles by them."""
    service_account_tokens: bool = False
    """Whether projected volumes may hold a token or certificate of the ServiceAccount."""
    identity_audiences: Patterns = []  # noqa: RUF012
    """Audiences that agents may set for the token of their ServiceAccount (workloadIdentity.audience) in place of the
    one that their provider expects."""
    service_annotations: Patterns = []  # noqa: RUF012
    """Keys of annotations that agents may set on their Service."""
    ingress_annotations: Patterns = []  # noqa: RUF012
    """Keys of annotations that agents may set on their Ingress."""
    http_route_annotations: Patterns = []  # noqa: RUF012
    """Keys of annotations that agents may set on their HTTPRoute."""
    pod_annotations: Patterns = []  # noqa: RUF012
    """Keys of annotations that agents may set on their pods."""
    pod_labels: Patterns = []  # noqa: RUF012
    """Keys of labels that agents may set on their pods. Webhooks and other Services select pods by such labels."""
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
    """Whether containers may have what the baseline Pod Security Standard forbids: privileged mode, capabilities,
    host ports, unconfined profiles, sysctls, SELinux options, and hosts in probes and hooks."""

    def by_name(self) -> dict[str, bool | list[str]]:
        """Return the settings by their names in the chart. The entries of lists are strings."""
        settings = self.model_dump(by_alias=True)
        return {name: list(map(str, each)) if isinstance(each, list) else each for name, each in settings.items()}


class PolicyError(ValueError):
    """A policy that cannot be read. The message contains the place and the reason."""


def load(path: Path) -> Policy:
    """Return the policy of a YAML file, or of the folder at which a ConfigMap is mounted (one file per setting).

    The file contains the settings, or the ConfigMap of the chart. A missing setting has the default of the chart.

    Raises PolicyError.
    """
    try:
        document = _folder(path) if path.is_dir() else yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise PolicyError(f"The policy {path} cannot be read: {type(error).__name__}") from error
    if isinstance(document, Mapping) and document.get("kind") == "ConfigMap":
        document = document.get("data")
    if not isinstance(document, Mapping):
        raise PolicyError(f"The policy {path} contains no settings: use the format of `policies.allow` in the chart")
    try:
        return Policy.model_validate({key: _value(key, value) for key, value in document.items()})
    except ValidationError as error:
        faults = "; ".join(map(str, faults_of(error, "policies.allow")))
        raise PolicyError(f"The policy {path} is not valid: {faults}") from error


def _folder(path: Path) -> dict[str, str]:
    # The kubelet keeps its own links in this folder, under names that begin with a dot.
    files = [each for each in sorted(path.iterdir()) if not each.name.startswith(".")]
    return {each.name: each.read_text(encoding="utf-8") for each in files}


_LISTS = {info.alias or name for name, info in Policy.model_fields.items() if isinstance(info.get_default(), list)}


def _value(key: Any, value: Any) -> Any:
    """Return a setting from a ConfigMap, converted to its type."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    if key not in _LISTS:
        return _TRUTHS.get(text, value)
    entries = [entry for entry in text.split(",") if entry]
    return [int(entry) if key == "egressPorts" and entry.isdecimal() else entry for entry in entries]
