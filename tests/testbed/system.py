"""What the test bed needs of the operating system: root, and commands that Debian's packages carry."""

import os
import shutil
import subprocess
import sys

from testbed.console import step
from testbed.errors import TestbedError

# Debian's sbin folders are not on every PATH (`su` without a dash leaves them out), and iptables is there.
os.environ["PATH"] = f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin"

PACKAGE_OF = {
    "buildah": "buildah",
    "chroot": "coreutils",
    "conntrack": "conntrack",
    "containerd": "containerd",
    "debootstrap": "debootstrap",
    "ip": "iproute2",
    "iptables": "iptables",
    "nsenter": "util-linux",
    "runc": "runc",
    "setpriv": "util-linux",
    "socat": "socat",
    "/usr/lib/cni/ptp": "containernetworking-plugins",
}


def need_root(what: str) -> None:
    """Raise unless this process is root on Linux, which `what` needs."""
    if not sys.platform.startswith("linux"):
        raise TestbedError(
            f"{what} needs Linux. On this machine use a cluster of your own: set KUBECONFIG, or `make kind`."
        )
    if os.geteuid() != 0:
        raise TestbedError(
            f"{what} needs root (namespaces, mounts, network). Run it with sudo, or use a cluster of your own: "
            "set KUBECONFIG, or `make kind`."
        )


def need(*commands: str) -> None:
    """Make sure that `commands` are there: install the Debian packages of those that are not (as root)."""
    missing = sorted({PACKAGE_OF[command] for command in commands if shutil.which(command) is None})
    if not missing:
        return
    names = " ".join(missing)
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        raise TestbedError(f"These packages are missing: {names}. Install them (on Debian: apt-get install {names}).")
    with step(f"Installing Debian packages: {names}"):
        install = ["apt-get", "install", "-y", "-q", "--no-install-recommends", *missing]
        if _apt(install).returncode != 0:
            _apt(["apt-get", "update", "-q"])  # an old list names versions that are gone
            done = _apt(install)
            if done.returncode != 0:
                raise TestbedError(f"apt-get could not install {names}:\n{done.stdout.strip()[-2000:]}")


def docker_works() -> bool:
    """Whether a Docker daemon answers on this machine."""
    if shutil.which("docker") is None:
        return False
    return subprocess.run(["docker", "info"], capture_output=True, check=False, timeout=30).returncode == 0


def _apt(command: list[str]) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    return subprocess.run(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
