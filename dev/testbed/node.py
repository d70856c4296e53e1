"""The one node of a cluster: network, containerd, kubelet, kube-proxy and cluster DNS.

All of it runs inside mount, network and PID namespaces that the supervisor created: `/run` is private, addresses and
iptables rules belong to the namespace, and nothing in it has a route to the outside.
"""

import http.client
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import yaml

from testbed import program_image
from testbed.api import Api, NotServedError
from testbed.certificates import Authority
from testbed.control_plane import SERVICE_RANGE, Site
from testbed.errors import TestbedError
from testbed.process import Process

NAME = "portside-node"
POD_RANGE = "10.244.0.0/24"
CLUSTER_DOMAIN = "cluster.local"
CNI_PLUGINS = Path("/usr/lib/cni")
CONTAINERD_SOCKET = Path("/run/containerd/containerd.sock")
PAUSE_IMAGE = "portside.dev/pause:testbed"
START_SECONDS = 120


def start(site: Site, authority: Authority, cgroup: str) -> Iterator[Process]:
    """Start the node of `site`; yield each program once it is ready for the next.

    kube-proxy starts after the kubelet: without a Node object of its name, it waits half a minute for one.

    `cgroup` is the parent of every pod's cgroup, an absolute path in each hierarchy. Raises TestbedError, with the
    end of the program's log, when a program does not come up.
    """
    yield _containerd(site)
    _import_pause(site)
    yield _kubelet(site, authority, cgroup)
    yield _kube_proxy(site, authority)
    if "coredns" in site.programs:
        yield _dns(site)


def prepare_mounts() -> None:
    """Make this mount namespace the node's own: mounts propagate to pods (the kubelet requires it); `/run` is empty."""
    _run("mount", "--make-rprivate", "/")
    _run("mount", "--make-rshared", "/")
    for place in ("/run", "/var/log", "/var/lib/kubelet"):
        _run("mount", "-t", "tmpfs", "-o", "mode=755", "portside", place)
    Path("/run/netns").mkdir()
    Path("/run/lock").mkdir()


def prepare_network(address: str) -> None:
    """Set up this network namespace of the node at `address`: its loopback, a route for Services, and forwarding."""
    _run("ip", "link", "set", "lo", "up")
    # A Service's address must have a route before kube-proxy's rules can rewrite it. Traffic to unknown ones ends here.
    _run("ip", "route", "add", SERVICE_RANGE, "dev", "lo", "src", address)
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")


def _containerd(site: Site) -> Process:
    networks = site.folder / "cni"
    networks.mkdir()
    (networks / "10-portside.conflist").write_text(json.dumps(_pod_network(site)))
    config = site.folder / "containerd.toml"
    config.write_text(_containerd_config(site, networks))
    process = Process("containerd", ["containerd", "--config", config], site.logs)
    process.wait_until(lambda: _accepts(CONTAINERD_SOCKET), "its socket", START_SECONDS)
    return process


def _containerd_config(site: Site, networks: Path) -> str:
    return f"""\
version = 2
root = "{site.folder / "containerd"}"
state = "{CONTAINERD_SOCKET.parent}"
oom_score = 0
disabled_plugins = ["io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", \
"io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs"]

[grpc]
  address = "{CONTAINERD_SOCKET}"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  disable_apparmor = true
  # Without CAP_SYS_RESOURCE a container cannot ask to be spared by the OOM killer more than its parent is.
  restrict_oom_score_adj = true

  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{CNI_PLUGINS}"
    conf_dir = "{networks}"

  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"

    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = false
"""


def _pod_network(site: Site) -> dict[str, object]:
    """Return point-to-point links: traffic between pods is routed, so Services work without the module br_netfilter."""
    ranges = [[{"subnet": POD_RANGE}]]
    addresses = {"type": "host-local", "dataDir": str(site.folder / "cni-leases"), "ranges": ranges}
    return {
        "cniVersion": "0.4.0",
        "name": "portside",
        "plugins": [
            {"type": "ptp", "ipMasq": True, "ipam": addresses | {"routes": [{"dst": "0.0.0.0/0"}]}},
            {"type": "portmap", "capabilities": {"portMappings": True}},
        ],
    }


def _import_pause(site: Site) -> None:
    archive = site.folder / "pause.tar"
    archive.write_bytes(program_image.archive(PAUSE_IMAGE, site.programs["pause"]))
    import_image(archive)


def import_image(archive: Path) -> None:
    """Load an image archive into containerd for the kubelet. Raises TestbedError with the output of ctr."""
    command: list[str | Path] = [
        "ctr",
        "--address",
        CONTAINERD_SOCKET,
        "--namespace",
        "k8s.io",
        "images",
        "import",
        archive,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise TestbedError(f"The image archive {archive} could not be loaded: {done.stderr.strip()}")


def _kube_proxy(site: Site, authority: Authority) -> Process:
    pair = authority.issue("system:kube-proxy", [])
    config = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "iptables",
        "clientConnection": {
            "kubeconfig": str(authority.kubeconfig(site.folder / "kube-proxy.kubeconfig", site.server, pair))
        },
        "hostnameOverride": NAME,
        "clusterCIDR": POD_RANGE,
        "nodePortAddresses": [f"{site.address}/32"],
        "conntrack": {"maxPerCore": 0, "min": 0},  # those limits belong to the machine, not to this namespace
        "oomScoreAdj": 0,
        "healthzBindAddress": "127.0.0.1:10256",
    }
    process = Process(
        "kube-proxy", [site.programs["kube-proxy"], f"--config={_write(site, 'kube-proxy', config)}"], site.logs
    )
    process.wait_until(lambda: _answers(10256, "/livez"), "/livez", START_SECONDS)
    return process


def _dns(site: Site) -> Process:
    corefile = site.folder / "Corefile"
    corefile.write_text(f"""\
.:53 {{
    bind {site.address}
    errors
    ready 127.0.0.1:8181
    kubernetes {CLUSTER_DOMAIN} in-addr.arpa ip6.arpa {{
        kubeconfig {site.kubeconfig}
        pods insecure
    }}
    template ANY ANY . {{
        rcode NXDOMAIN
    }}
}}
""")
    process = Process("coredns", [site.programs["coredns"], "-conf", corefile], site.logs)
    process.wait_until(lambda: _answers(8181, "/ready"), "/ready", START_SECONDS)
    return process


def _kubelet(site: Site, authority: Authority, cgroup: str) -> Process:
    client = authority.issue(f"system:node:{NAME}", ["system:nodes"])
    kubeconfig = authority.kubeconfig(site.folder / "kubelet.kubeconfig", site.server, client)
    serving = authority.issue("kubelet", [], [site.address])
    resolver = site.folder / "resolv.conf"
    resolver.write_text(f"nameserver {site.address}\n")
    config = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": site.address,
        "authentication": {"anonymous": {"enabled": False}, "x509": {"clientCAFile": str(authority.certificate)}},
        "tlsCertFile": str(serving.certificate),
        "tlsPrivateKeyFile": str(serving.key),
        "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": cgroup,
        "failCgroupV1": False,
        "failSwapOn": False,
        "oomScoreAdj": 0,
        "clusterDNS": [site.address],
        "clusterDomain": CLUSTER_DOMAIN,
        "resolvConf": str(resolver),
        "podLogsDir": str(site.folder / "pod-logs"),
        # A full disk or little free memory on a laptop must not evict the tests' pods, or remove their images.
        "evictionHard": {"memory.available": "50Mi", "nodefs.available": "0%", "imagefs.available": "0%"},
        "imageGCHighThresholdPercent": 100,
        # A changed Secret reaches its pods at the next sync, by default within a minute and a half.
        "syncFrequency": "5s",
    }
    process = Process(
        "kubelet",
        [
            site.programs["kubelet"],
            f"--config={_write(site, 'kubelet', config)}",
            f"--kubeconfig={kubeconfig}",
            f"--root-dir={site.folder / 'kubelet'}",
            f"--hostname-override={NAME}",
            f"--node-ip={site.address}",
        ],
        site.logs,
    )
    api = Api(site.kubeconfig)
    process.wait_until(lambda: _node_is_ready(api), "the node's Ready condition", START_SECONDS)
    return process


def _node_is_ready(api: Api) -> bool:
    try:
        node = api.get("node", NAME, "--ignore-not-found") or {}
    except NotServedError:
        return False
    conditions = node.get("status", {}).get("conditions") or []
    return any((each["type"], each["status"]) == ("Ready", "True") for each in conditions)


def _write(site: Site, name: str, config: dict[str, object]) -> Path:
    path = site.folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def _accepts(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return os.path.exists(path) and probe.connect_ex(str(path)) == 0


def _answers(port: int, path: str) -> bool:
    """Return whether an HTTP server on this port of the namespace's loopback answers 200 to a GET of `path`."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.HTTPStatus.OK
    except OSError:
        return False
    finally:
        connection.close()


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise TestbedError(f"`{' '.join(command)}` failed: {done.stderr.strip()}")


if __name__ == "__main__":  # run inside the node's namespaces by cluster.OwnCluster.load_image
    try:
        import_image(Path(sys.argv[1]))
    except TestbedError as error:
        sys.exit(str(error))
