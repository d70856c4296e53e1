"""Advice for a pod that does not start, based on the message of the component that reports it. Pure.

Each table maps patterns in the message to advice. The patterns match the texts in the sources of Kubernetes and of the
container runtimes; tests/unit/operator/test_remedies.py tests them.
"""

import re
from typing import NamedTuple

from agent_operator.controller.status.pod_problems import AS_A_USER

Table = tuple[tuple[str, str], ...]


class Fields(NamedTuple):
    """The fields of the spec that concern a container; the advice in the tables names them in braces."""

    image: str = "image.repository, image.tag or image.digest"
    pull_policy: str = "image.pullPolicy"
    memory: str = "resources.limits.memory of the agent"
    mounts: str = "extraVolumeMounts"
    user: str = (
        "run as a user other than root: set runAsUser (10001 for our image) in podSecurityContext or securityContext, "
        "or remove runAsNonRoot there"
    )
    program: str = "use the image of an agent: this one lacks the agent's program (image.repository, image.tag)"
    permission: str = (
        "check that the user of the container may run the program (runAsUser), and use the image of an agent"
    )


AGENT = Fields()
RUNTIME = Fields(
    image="runtime.image",
    pull_policy="runtime.imagePullPolicy",
    memory="runtime.resources.limits.memory",
    mounts="runtime.volumeMounts",
    user=AS_A_USER,
    program="correct runtime.command, or runtime.image: the image lacks this program",
    permission="check that the user of the container may run the program (runtime.securityContext.runAsUser)",
)

# kubernetes, pkg/scheduler/framework/plugins. Claims come first: if one is missing, no node can fit.
_CLAIMS: Table = (
    (
        r'persistentvolumeclaim "(?P<name>[^"]+)" not found',
        "create the PersistentVolumeClaim {name}, or name another in extraVolumes",
    ),
    (r'persistentvolumeclaim "(?P<name>[^"]+)" is being deleted', "wait until {name} is gone, and create it again"),
    (
        r"unbound (immediate )?PersistentVolumeClaims",
        (
            "check why the PersistentVolumeClaim is not bound (kubectl describe pvc): it needs a StorageClass, or "
            "a matching PersistentVolume"
        ),
    ),
    (
        r"didn't find available persistent volumes",
        "create a matching PersistentVolume, or a StorageClass that provisions one",
    ),
    (
        r"volume node affinity conflict",
        "schedule the pods where the volume is: check its zone, nodeSelector and affinity",
    ),
    (r"volume limits|max volume count", "add a node: the suitable ones have reached their volume limit"),
)
_SCHEDULING: Table = (
    (
        r"Insufficient (?P<name>[\w./-]*\w)",
        "add a node or make room, or lower resources.requests ({name}) of the agent",
    ),
    (r"Too many pods", "add a node: the suitable ones have reached their pod limit"),
    (r"untolerated taint|had taint", "tolerate the taint in tolerations, or remove it from a node"),
    (
        r"didn't match Pod's node affinity/selector|didn't match node selector",
        "label a node to match nodeSelector and affinity, or correct these",
    ),
    (r"didn't (match|satisfy).*(anti-affinity)", "add a node, or relax the pods' anti-affinity in affinity"),
    (r"didn't match pod affinity", "correct the pods' affinity, or start the pods that it requires"),
    (r"topology spread constraints", "add a node, or relax topologySpreadConstraints (whenUnsatisfiable)"),
    (r"were unschedulable", "make a node schedulable again: kubectl uncordon"),
    (r"free ports", "add a node, or remove the hostPort from the containers"),
    (r"no nodes available|0/0 nodes", "add a node: the cluster has none"),
)
_UNSCHEDULABLE = "make room or add a node, or change resources, nodeSelector, tolerations or affinity of the agent"

# kubelet, pkg/kubelet/kuberuntime and pkg/kubelet/kubelet_pods.go; runc and containerd.
_CONTAINER: Table = (
    (
        r"runAsNonRoot|non-root",
        "{user}",
    ),
    (r"couldn't find key (?P<name>\S+) in Secret (\S+/)?(?P<holder>\S+)", "add the key {name} to the Secret {holder}"),
    (
        r"couldn't find key (?P<name>\S+) in ConfigMap (\S+/)?(?P<holder>\S+)",
        "add the key {name} to the ConfigMap {holder}",
    ),
    (r'secret "(?P<name>[^"]+)" not found', "create the Secret {name}, or name another"),
    (r'configmap "(?P<name>[^"]+)" not found', "create the ConfigMap {name}, or name another"),
    (r"subPath|subpath", "correct subPath in {mounts}: it must exist, or be creatable, in the volume"),
    (
        r"exec format error|no match for platform",
        "use an image for the architecture of the node (kubectl get node -L kubernetes.io/arch)",
    ),
    (
        r"executable file not found|no command specified|no such file or directory",
        "{program}",
    ),
    (
        r"permission denied",
        "{permission}",
    ),
    (r"(?i)oom-killed|memory limit too low", "raise {memory}"),
    (r"read-only file system", "mount a volume where it writes (extraVolumes, {mounts})"),
    (
        r"services have not yet been read|is reserved for|context deadline exceeded",
        "wait: the node retries automatically",
    ),
)

# containerd, pkg/cri; distribution's errors; kubelet, pkg/kubelet/images.
_IMAGE: Table = (
    (
        r"(?i)pull policy of Never|ErrImageNeverPull",
        "load the image into the node, or set {pull_policy} to IfNotPresent",
    ),
    (
        r"(?i)invalid reference|parse image|InvalidImageName",
        "correct {image}: the name of the image is not valid",
    ),
    (r"(?i)no match for platform|no matching manifest", "use an image for the architecture of the node"),
    (
        r"(?i)toomanyrequests|429|rate limit",
        "wait, or pull with credentials or from a mirror: the registry limits pulls",
    ),
    (r"(?i)x509|certificate", "configure the node to trust the registry's certificate"),
    (
        r"(?i)no such host|i/o timeout|connection refused|dial tcp|deadline exceeded",
        "check that the node can reach the registry, and that {image} names it correctly",
    ),
    (
        r"(?i)unauthorized|authentication|denied|forbidden|401|403",
        (
            "name a Secret for the registry in imagePullSecrets, or correct {image}: registries also send "
            "this error for an image that does not exist"
        ),
    ),
    (
        r"(?i)not found|manifest unknown|404",
        "correct {image}: there is no such image",
    ),
    (r"(?i)no space left", "free space on the node's disk"),
)
_PULL = "correct {image}, or name a Secret for the registry in imagePullSecrets"

# kube-controller-manager and the admission plugins: why a ReplicaSet creates no pod.
_REFUSAL: Table = (
    (r"exceeded quota", "raise the ResourceQuota of the namespace, or request less (resources, replicas)"),
    (r"failed quota.*must specify", "set in resources what the ResourceQuota requires (requests and limits)"),
    (
        r"violates PodSecurity",
        "comply with the namespace's Pod Security Standard in podSecurityContext, securityContext and other containers",
    ),
    (r'serviceaccount "(?P<name>[^"]+)" not found', "create the ServiceAccount {name}, or set serviceAccount.create"),
    (r"no PriorityClass with name (?P<name>\S+)", "create the PriorityClass {name}, or correct priorityClassName"),
    (r"(maximum|minimum) \w+ usage per|LimitRange", "comply with the LimitRange of the namespace in resources"),
    (r"failed calling webhook", "check that the admission webhook in the message is running"),
    (
        r"security context constraint",
        "allow it in an SCC, or remove users and groups from podSecurityContext (OpenShift)",
    ),
)
_REFUSED = "change what the admission rule in the message rejects, in the agent or in the namespace"

# kubelet, volume manager; attach-detach controller.
_MOUNT: Table = (
    *_CLAIMS[:1],
    (r'secret "([^"]+/)?(?P<name>[^"/]+)" not found', "create the Secret {name}; the pods then start automatically"),
    (
        r'configmap "([^"]+/)?(?P<name>[^"/]+)" not found',
        "create the ConfigMap {name}; the pods then start automatically",
    ),
    (r"Multi-Attach", "wait until the other node detaches the volume, or use one that several pods can share"),
    (r"hostPath type check failed", "create the path on the node, or correct type in extraVolumes"),
    (r"driver name .* not found", "install the CSI driver on the node"),
    (r"permission denied|access denied", "allow the node to access the volume: check the permissions of the storage"),
)
_MOUNTED = "create what the message names; the pods then start automatically"


def for_unscheduled(message: str) -> str:
    """Return advice for a pod that cannot be scheduled to any node."""
    return _first(_CLAIMS, message) or _all(_SCHEDULING, message) or _UNSCHEDULABLE


def for_container(message: str, pod: str, fields: Fields = AGENT) -> str:
    """Return advice for a container that cannot be created or run."""
    return _first(_CONTAINER, message, fields) or f"see kubectl describe pod {pod}"


def for_image(message: str, fields: Fields = AGENT) -> str:
    """Return advice for an image that cannot be pulled."""
    return _first(_IMAGE, message, fields) or _PULL.format(**fields._asdict())


def for_refusal(message: str) -> str:
    """Return advice for pods that the API server refuses to create."""
    return _first(_REFUSAL, message) or _REFUSED


def for_mount(message: str) -> str:
    """Return advice for a volume that cannot be mounted."""
    return _first(_MOUNT, message) or _MOUNTED


def _first(table: Table, message: str, fields: Fields = AGENT) -> str | None:
    return next(iter(_matching(table, message, fields)), None)


def _all(table: Table, message: str) -> str:
    return "; or ".join(_matching(table, message, AGENT))


def _matching(table: Table, message: str, fields: Fields) -> list[str]:
    found = ((advice, re.search(pattern, message)) for pattern, advice in table)
    named = fields._asdict()
    return [advice.format(**named, **match.groupdict()) for advice, match in found if match is not None]
