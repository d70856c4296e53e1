"""Advice for a pod that does not start, based on the message of the component that reports it. Pure.

Each table maps patterns in the message to advice. The patterns match the texts in the sources of Kubernetes and of the
container runtimes; tests/unit/operator/test_remedies.py tests them.
"""

import re

Table = tuple[tuple[str, str], ...]

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
            "see why the PersistentVolumeClaim is not bound (kubectl describe pvc): it needs a StorageClass, or "
            "a PersistentVolume that fits"
        ),
    ),
    (
        r"didn't find available persistent volumes",
        "create a PersistentVolume that fits, or a StorageClass that makes one",
    ),
    (
        r"volume node affinity conflict",
        "let the pods run where the volume is: see its zone, and nodeSelector and affinity",
    ),
    (r"volume limits|max volume count", "add a node: those that fit hold as many volumes as they can"),
)
_SCHEDULING: Table = (
    (
        r"Insufficient (?P<name>[\w./-]*\w)",
        "add a node or make room, or lower resources.requests ({name}) of the agent",
    ),
    (r"Too many pods", "add a node: those that fit have as many pods as they may"),
    (r"untolerated taint|had taint", "add the taint to tolerations, or remove it from a node"),
    (
        r"didn't match Pod's node affinity/selector|didn't match node selector",
        "label a node as nodeSelector and affinity ask, or correct these",
    ),
    (r"didn't (match|satisfy).*(anti-affinity)", "add a node, or loosen the pods' anti-affinity in affinity"),
    (r"didn't match pod affinity", "correct the pods' affinity, or start the pods that it asks for"),
    (r"topology spread constraints", "add a node, or loosen topologySpreadConstraints (whenUnsatisfiable)"),
    (r"were unschedulable", "let a node take pods again: kubectl uncordon"),
    (r"free ports", "add a node, or take the hostPort out of the containers"),
    (r"no nodes available|0/0 nodes", "add a node: the cluster has none"),
)
_UNSCHEDULABLE = "make room or add a node, or change resources, nodeSelector, tolerations or affinity of the agent"

# kubelet, pkg/kubelet/kuberuntime and pkg/kubelet/kubelet_pods.go; runc and containerd.
_CONTAINER: Table = (
    (
        r"runAsNonRoot|non-root",
        (
            "run as a user that is not root: set runAsUser (10001 is that of our image) in podSecurityContext or "
            "securityContext, or take runAsNonRoot out there"
        ),
    ),
    (r"couldn't find key (?P<name>\S+) in Secret (\S+/)?(?P<holder>\S+)", "add the key {name} to the Secret {holder}"),
    (
        r"couldn't find key (?P<name>\S+) in ConfigMap (\S+/)?(?P<holder>\S+)",
        "add the key {name} to the ConfigMap {holder}",
    ),
    (r'secret "(?P<name>[^"]+)" not found', "create the Secret {name}, or name another"),
    (r'configmap "(?P<name>[^"]+)" not found', "create the ConfigMap {name}, or name another"),
    (r"subPath|subpath", "correct subPath in extraVolumeMounts: it must exist, or be creatable, in the volume"),
    (
        r"exec format error|no match for platform",
        "use an image for the processor of the node (kubectl get node -L kubernetes.io/arch)",
    ),
    (
        r"executable file not found|no command specified|no such file or directory",
        "use the image of an agent: this one lacks the program that starts one (image.repository, image.tag)",
    ),
    (
        r"permission denied",
        "see that the user of the container may run the program (runAsUser), and use the image of an agent",
    ),
    (r"(?i)oom-killed|memory limit too low", "raise resources.limits.memory of the agent"),
    (r"read-only file system", "mount a volume where it writes (extraVolumes, extraVolumeMounts)"),
    (
        r"services have not yet been read|is reserved for|context deadline exceeded",
        "wait: the node tries again by itself",
    ),
)

# containerd, pkg/cri; distribution's errors; kubelet, pkg/kubelet/images.
_IMAGE: Table = (
    (
        r"(?i)pull policy of Never|ErrImageNeverPull",
        "load the image into the node, or set image.pullPolicy to IfNotPresent",
    ),
    (
        r"(?i)invalid reference|parse image|InvalidImageName",
        "correct image.repository and image.tag: they make no valid name",
    ),
    (r"(?i)no match for platform|no matching manifest", "use an image for the processor of the node"),
    (
        r"(?i)toomanyrequests|429|rate limit",
        "wait, or pull with credentials or from a mirror: the registry limits pulls",
    ),
    (r"(?i)x509|certificate", "let the node trust the registry's certificate"),
    (
        r"(?i)no such host|i/o timeout|connection refused|dial tcp|deadline exceeded",
        "see that the node reaches the registry, and that image.repository names it correctly",
    ),
    (
        r"(?i)unauthorized|authentication|denied|forbidden|401|403",
        (
            "name a Secret for the registry in imagePullSecrets, or correct image.repository: registries answer so for "
            "an image that does not exist, too"
        ),
    ),
    (
        r"(?i)not found|manifest unknown|404",
        "correct image.repository, image.tag or image.digest: there is no such image",
    ),
    (r"(?i)no space left", "make room on the node's disk"),
)
_PULL = "put image.repository, image.tag or image.digest right, or name a Secret for the registry in imagePullSecrets"

# kube-controller-manager and the admission plugins: why a ReplicaSet creates no pod.
_REFUSAL: Table = (
    (r"exceeded quota", "raise the ResourceQuota of the namespace, or ask for less (resources, replicas)"),
    (r"failed quota.*must specify", "set in resources what the ResourceQuota asks for (requests and limits)"),
    (
        r"violates PodSecurity",
        "keep to the namespace's Pod Security Standard in podSecurityContext, securityContext and further containers",
    ),
    (r'serviceaccount "(?P<name>[^"]+)" not found', "create the ServiceAccount {name}, or set serviceAccount.create"),
    (r"no PriorityClass with name (?P<name>\S+)", "create the PriorityClass {name}, or correct priorityClassName"),
    (r"(maximum|minimum) \w+ usage per|LimitRange", "keep to the LimitRange of the namespace in resources"),
    (r"failed calling webhook", "see that the admission webhook in the message is running"),
    (
        r"security context constraint",
        "let an SCC allow it, or leave users and groups out of podSecurityContext (OpenShift)",
    ),
)
_REFUSED = "change what the admission rule in the message objects to, in the agent or in the namespace"

# kubelet, volume manager; attach-detach controller.
_MOUNT: Table = (
    *_CLAIMS[:1],
    (r'secret "([^"]+/)?(?P<name>[^"/]+)" not found', "create the Secret {name}; the pods then start by themselves"),
    (
        r'configmap "([^"]+/)?(?P<name>[^"/]+)" not found',
        "create the ConfigMap {name}; the pods then start by themselves",
    ),
    (r"Multi-Attach", "wait until the other node lets go of the volume, or use one that several pods may share"),
    (r"hostPath type check failed", "create the path on the node, or correct type in extraVolumes"),
    (r"driver name .* not found", "install the CSI driver on the node"),
    (r"permission denied|access denied", "let the node access the volume: see the storage's own rights"),
)
_MOUNTED = "make what it names; the pods then start by themselves"


def for_unscheduled(message: str) -> str:
    """Return advice for a pod that cannot be scheduled to any node."""
    return _first(_CLAIMS, message) or _all(_SCHEDULING, message) or _UNSCHEDULABLE


def for_container(message: str, pod: str) -> str:
    """Return advice for a container that cannot be created or run."""
    return _first(_CONTAINER, message) or f"see kubectl describe pod {pod}"


def for_image(message: str) -> str:
    """Return advice for an image that cannot be pulled."""
    return _first(_IMAGE, message) or _PULL


def for_refusal(message: str) -> str:
    """Return advice for pods that the API server refuses to create."""
    return _first(_REFUSAL, message) or _REFUSED


def for_mount(message: str) -> str:
    """Return advice for a volume that cannot be mounted."""
    return _first(_MOUNT, message) or _MOUNTED


def _first(table: Table, message: str) -> str | None:
    return next(iter(_matching(table, message)), None)


def _all(table: Table, message: str) -> str:
    return "; or ".join(_matching(table, message))


def _matching(table: Table, message: str) -> list[str]:
    found = ((advice, re.search(pattern, message)) for pattern, advice in table)
    return [advice.format(**match.groupdict()) for advice, match in found if match is not None]
