"""Advice for problems that keep a pod from starting, by the messages of Kubernetes and container runtimes."""

import pytest

from agent_operator.tools.doctor import remedies


@pytest.mark.parametrize(
    ("message", "advice"),
    [
        (
            '0/1 nodes are available: persistentvolumeclaim "data" not found. preemption: 0/1',
            "PersistentVolumeClaim data",
        ),
        ("0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims.", "StorageClass"),
        ("0/3 nodes are available: 3 node(s) had volume node affinity conflict.", "where the volume is"),
        ("0/3 nodes are available: 3 node(s) didn't find available persistent volumes to bind.", "PersistentVolume"),
        ("0/3 nodes are available: 3 Insufficient memory.", "lower resources.requests (memory)"),
        ("0/1 nodes are available: 1 Insufficient nvidia.com/gpu.", "(nvidia.com/gpu)"),
        ("0/1 nodes are available: 1 Too many pods.", "have reached their pod limit"),
        ("0/1 nodes are available: 1 node(s) had untolerated taint {gpu: yes}.", "tolerations"),
        ("0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector.", "nodeSelector"),
        ("0/2 nodes are available: 2 node(s) didn't match pod anti-affinity rules.", "anti-affinity"),
        ("0/2 nodes are available: 2 node(s) didn't match pod affinity rules.", "affinity"),
        ("0/2 nodes are available: 2 node(s) didn't match pod topology spread constraints.", "topologySpread"),
        ("0/1 nodes are available: 1 node(s) were unschedulable.", "uncordon"),
        ("0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports.", "hostPort"),
        ("no nodes available to schedule pods", "has none"),
        ("something that no table has", "make room or add a node"),
    ],
)
def test_advice_for_a_pod_that_cannot_be_scheduled(message: str, advice: str) -> None:
    assert advice in remedies.for_unscheduled(message)


def test_each_of_several_reasons_has_its_advice_unless_a_claim_is_missing() -> None:
    both = "0/3 nodes are available: 1 Insufficient cpu, 2 node(s) had untolerated taint {a: b}."

    assert "(cpu)" in remedies.for_unscheduled(both)
    assert "tolerations" in remedies.for_unscheduled(both)
    claim = remedies.for_unscheduled(f'{both} persistentvolumeclaim "data" not found')
    assert claim == "create the PersistentVolumeClaim data, or name another in extraVolumes"


@pytest.mark.parametrize(
    ("message", "advice"),
    [
        ("container has runAsNonRoot and image will run as root (pod: x, container: agent)", "runAsUser"),
        ("container's runAsUser breaks non-root policy (pod: x, container: agent)", "runAsUser"),
        (
            "container has runAsNonRoot and image has non-numeric user (app), cannot verify user is non-root",
            "runAsUser",
        ),
        ('secret "keys" not found', "create the Secret keys"),
        ('configmap "x" not found', "create the ConfigMap x"),
        ("couldn't find key KEY in Secret prod/keys", "add the key KEY to the Secret keys"),
        ("couldn't find key a in ConfigMap prod/b", "add the key a to the ConfigMap b"),
        ('failed to prepare subPath for volumeMount "d" of container "agent"', "subPath"),
        ('exec: "worker": executable file not found in $PATH: unknown', "image of an agent"),
        ("no command specified", "image of an agent"),
        ("exec /usr/bin/x: exec format error", "architecture"),
        ("services have not yet been read at least once, cannot construct envvars", "wait"),
        ("anything else", "kubectl describe pod p"),
    ],
)
def test_advice_for_a_container_that_cannot_be_created(message: str, advice: str) -> None:
    assert advice in remedies.for_container(message, "p")


@pytest.mark.parametrize(
    ("message", "advice"),
    [
        ('failed to resolve reference "x.io/a:1": x.io/a:1: not found', "no such image"),
        ("manifest unknown: manifest unknown", "no such image"),
        ("failed to authorize: 401 Unauthorized", "imagePullSecrets"),
        ("pull access denied, repository does not exist or may require authorization", "imagePullSecrets"),
        ("dial tcp: lookup x.io: no such host", "node can reach the registry"),
        ("tls: failed to verify certificate: x509: certificate signed by unknown authority", "certificate"),
        ("429 Too Many Requests - toomanyrequests: You have reached your pull rate limit", "limits pulls"),
        ('couldn\'t parse image reference "A:b": invalid reference format', "not valid"),
        ('Container image "x" is not present with pull policy of Never', "load the image"),
        ("no match for platform in manifest: not found", "architecture"),
        ("no space left on device", "disk"),
        ("check its name", "image.repository"),
    ],
)
def test_advice_for_an_image_that_cannot_be_pulled(message: str, advice: str) -> None:
    assert advice in remedies.for_image(message)


@pytest.mark.parametrize(
    ("message", "advice"),
    [
        ('pods "a-" is forbidden: exceeded quota: q, requested: pods=1', "raise the ResourceQuota"),
        ("pods is forbidden: failed quota: q: must specify limits.cpu", "what the ResourceQuota requires"),
        ('pods "a" is forbidden: violates PodSecurity "restricted:latest": allowPrivilegeEscalation', "Pod Security"),
        ('error looking up service account prod/x: serviceaccount "x" not found', "ServiceAccount x"),
        ("no PriorityClass with name high was found", "PriorityClass high"),
        ("maximum memory usage per Container is 1Gi, but limit is 2Gi", "LimitRange"),
        ('Internal error occurred: failed calling webhook "a.b": connection refused', "webhook"),
        ('admission webhook "a" denied the request: no', "admission rule"),
    ],
)
def test_advice_for_pods_that_are_rejected(message: str, advice: str) -> None:
    assert advice in remedies.for_refusal(message)


@pytest.mark.parametrize(
    ("message", "advice"),
    [
        ('MountVolume.SetUp failed for volume "x" : secret "keys" not found', "create the Secret keys"),
        ('MountVolume.SetUp failed for volume "x" : configmap "c" not found', "create the ConfigMap c"),
        ('Multi-Attach error for volume "pvc-1" Volume is already used by pod(s) a', "other node"),
        (
            'MountVolume.SetUp failed for volume "x" : hostPath type check failed: /a is not a directory',
            "create the path",
        ),
        ("anything else", "create what the message names"),
    ],
)
def test_advice_for_a_volume_that_cannot_be_mounted(message: str, advice: str) -> None:
    assert advice in remedies.for_mount(message)
