"""What the test bed needs of the operating system: root, and commands that Debian's packages carry."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from testbed import paths
from testbed.console import step
from testbed.errors import TestbedError

# Debian's sbin folders are not on every PATH (`su` without a dash leaves them out), and iptables is there.
os.environ["PATH"] = f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin"

PACKAGE_OF = {
    "buildah": "buildah",
    "chromium": "chromium",
    "chroot": "coreutils",
    "conntrack": "conntrack",
    "containerd": "containerd",
    "debootstrap": "debootstrap",
    "dot": "graphviz",
    "ip": "iproute2",
    "iptables": "iptables",
    "nsenter": "util-linux",
    "redis-check-rdb": "redis-tools",
    "runc": "runc",
    "setpriv": "util-linux",
    "socat": "socat",
    "wrk": "wrk",
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


def unpacked(package: str, program: str) -> Path:
    """Give the path of `program` out of a Debian package that is unpacked into our cache, and not installed.

    For packages that would start a service of their own. Raises TestbedError when the package cannot be had.
    """
    folder = paths.cache() / "debian" / package
    if not folder.exists():
        with step(f"Getting {program} out of Debian's package {package}"):
            _unpack(package, folder)
    return folder / program


def _unpack(package: str, folder: Path) -> None:
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    partial.chmod(0o777)  # apt downloads as a user of its own
    if _apt(["apt-get", "download", package], partial).returncode != 0:
        _apt(["apt-get", "update", "-q"])
        done = _apt(["apt-get", "download", package], partial)
        if done.returncode != 0:
            raise TestbedError(f"apt-get could not download {package} (is the network there?):\n{done.stdout[-1000:]}")
    [archive] = partial.glob("*.deb")
    subprocess.run(["dpkg-deb", "--extract", archive, partial], check=True)
    partial.rename(folder)  # a whole package or none


def docker_works() -> bool:
    """Whether a Docker daemon answers on this machine."""
    if shutil.which("docker") is None:
        return False
    return subprocess.run(["docker", "info"], capture_output=True, check=False, timeout=30).returncode == 0


def _apt(command: list[str], folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    return subprocess.run(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
