"""etcd, kube-apiserver, kube-controller-manager and kube-scheduler: their command lines and readiness checks."""

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from testbed.api import Api
from testbed.certificates import Authority
from testbed.process import Process

SERVICE_RANGE = "10.96.0.0/16"
KUBERNETES_SERVICE = "10.96.0.1"
START_SECONDS = 90
# Only writes, which tests count. Reads would make the log grow by the second (Kubernetes: "Auditing").
AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        {"level": "None", "verbs": ["get", "list", "watch"]},
        {"level": "None", "resources": [{"group": "coordination.k8s.io", "resources": ["leases"]}]},
        {"level": "Metadata"},
    ],
}


@dataclass(frozen=True)
class Site:
    """The place of a control plane: its folder, its programs, and the address and ports that it listens on."""

    folder: Path
    programs: dict[str, Path]
    address: str
    api_port: int
    etcd_port: int
    etcd_peer_port: int
    # The endpoint of the `kubernetes` Service: the node's address, or None where no pod uses it.
    advertised: str | None = None

    @property
    def server(self) -> str:
        """The API server's URL."""
        return f"https://{self.address}:{self.api_port}"

    @property
    def logs(self) -> Path:
        """The folder of the programs' logs."""
        return self.folder / "logs"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.folder / "kubeconfig"


def start(site: Site, authority: Authority, *, scheduler: bool) -> Iterator[Process]:
    """Start the control plane of `site`; yield each program once it is ready for the next.

    Raises TestbedError, with the end of the program's log, when a program does not come up.
    """
    authority.kubeconfig(site.kubeconfig, site.server, authority.issue("portside-admin", ["system:masters"]))
    yield _etcd(site)
    yield _api_server(site, authority)
    yield _controller_manager(site, authority)
    if scheduler:
        config = _component_kubeconfig(site, authority, "system:kube-scheduler")
        flags = [f"--kubeconfig={config}", "--leader-elect=false", "--secure-port=0"]
        yield Process("kube-scheduler", [site.programs["kube-scheduler"], *flags], site.logs)


def _etcd(site: Site) -> Process:
    client = f"http://127.0.0.1:{site.etcd_port}"
    peer = f"http://127.0.0.1:{site.etcd_peer_port}"
    process = Process(
        "etcd",
        [
            site.programs["etcd"],
            f"--data-dir={site.folder / 'etcd'}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--unsafe-no-fsync",  # only a test cluster is lost with the machine
            "--log-level=warn",
        ],
        site.logs,
    )
    process.wait_until(lambda: _listens(site.etcd_port), "its port", START_SECONDS)
    return process


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _api_server(site: Site, authority: Authority) -> Process:
    signer = authority.token_signer()
    names = [site.address, "127.0.0.1", KUBERNETES_SERVICE, "localhost", "kubernetes.default.svc"]
    serving = authority.issue("kube-apiserver", [], names)
    # The API server calls the kubelet (exec, logs, port-forward) as a member of this group.
    kubelet_client = authority.issue("kube-apiserver-kubelet-client", ["system:masters"])
    # Extension API servers (metrics) are called as this user, on behalf of the clients ("Aggregation Layer").
    front = authority.issue("front-proxy-client", [])
    policy = site.folder / "audit-policy.yaml"
    policy.write_text(yaml.safe_dump(AUDIT_POLICY))
    # The API server requires an address that is not loopback, even if no client uses it: one of RFC 5737.
    advertise = ["--advertise-address=203.0.113.1", "--endpoint-reconciler-type=none"]
    # Enabled in OpenShift; it requires additional rights of clients that set owner references. On a cluster with a node
    # it would delay the first agent by half a minute, until it has read the new definition.
    admission = "NodeRestriction,OwnerReferencesPermissionEnforcement"
    if site.advertised is not None:
        admission = "NodeRestriction"
        advertise = [f"--advertise-address={site.advertised}"]
    process = Process(
        "kube-apiserver",
        [
            site.programs["kube-apiserver"],
            f"--etcd-servers=http://127.0.0.1:{site.etcd_port}",
            f"--bind-address={site.address}",
            f"--secure-port={site.api_port}",
            *advertise,
            f"--tls-cert-file={serving.certificate}",
            f"--tls-private-key-file={serving.key}",
            f"--client-ca-file={authority.certificate}",
            f"--kubelet-client-certificate={kubelet_client.certificate}",
            f"--kubelet-client-key={kubelet_client.key}",
            f"--kubelet-certificate-authority={authority.certificate}",
            "--kubelet-preferred-address-types=InternalIP",
            f"--requestheader-client-ca-file={authority.certificate}",
            "--requestheader-allowed-names=front-proxy-client",
            "--requestheader-username-headers=X-Remote-User",
            "--requestheader-group-headers=X-Remote-Group",
            "--requestheader-extra-headers-prefix=X-Remote-Extra-",
            f"--proxy-client-cert-file={front.certificate}",
            f"--proxy-client-key-file={front.key}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={signer.certificate}",
            f"--service-account-signing-key-file={signer.key}",
            f"--service-cluster-ip-range={SERVICE_RANGE}",
            "--authorization-mode=Node,RBAC",
            f"--enable-admission-plugins={admission}",
            "--allow-privileged=true",
            f"--audit-policy-file={policy}",
            f"--audit-log-path={site.logs / 'audit.log'}",
            "--shutdown-delay-duration=0s",
        ],
        site.logs,
    )
    api = Api(site.kubeconfig)
    process.wait_until(lambda: api.answers("/readyz"), "/readyz", START_SECONDS)
    return process


def _controller_manager(site: Site, authority: Authority) -> Process:
    config = _component_kubeconfig(site, authority, "system:kube-controller-manager")
    process = Process(
        "kube-controller-manager",
        [
            site.programs["kube-controller-manager"],
            f"--kubeconfig={config}",
            f"--root-ca-file={authority.certificate}",
            f"--service-account-private-key-file={site.folder / 'pki' / 'service-accounts.key'}",
            "--use-service-account-credentials=true",
            # The defaults are for clusters with thousands of clients: they delay the start of a small one.
            "--kube-api-qps=200",
            "--kube-api-burst=400",
            "--leader-elect=false",
            "--secure-port=0",
            # The default interval is 15 s for each autoscaler, which the tests of scaling would have to wait for.
            "--horizontal-pod-autoscaler-sync-period=5s",
        ],
        site.logs,
    )
    api, account = Api(site.kubeconfig), "/api/v1/namespaces/default/serviceaccounts/default"
    process.wait_until(lambda: api.answers(account), "the default service account", START_SECONDS)
    return process


def _component_kubeconfig(site: Site, authority: Authority, user: str) -> Path:
    name = user.removeprefix("system:")
    return authority.kubeconfig(site.folder / f"{name}.kubeconfig", site.server, authority.issue(user, []))
