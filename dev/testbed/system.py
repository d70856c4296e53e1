"""The test bed's requirements for the operating system: root, and commands from Debian's packages."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from testbed import paths
from testbed.console import say, step
from testbed.errors import TestbedError

# Debian's sbin folders, where iptables is, are not on every PATH (`su` without a dash leaves them out).
os.environ["PATH"] = f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin"

PACKAGE_OF = {
    "buildah": "buildah",
    "chromium": "chromium",
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
    """Raise TestbedError unless this process is root on Linux, which `what` needs."""
    if not sys.platform.startswith("linux"):
        raise TestbedError(
            f"{what} needs Linux. On this machine, use a cluster of your own: set KUBECONFIG, or run `make kind`."
        )
    if os.geteuid() != 0:
        raise TestbedError(
            f"{what} needs root (namespaces, mounts, network). Run it with sudo, or use a cluster of your own: "
            "set KUBECONFIG, or run `make kind`."
        )


def missing_packages(*commands: str) -> list[str]:
    """Return the Debian packages of those `commands` that this machine lacks."""
    return sorted({PACKAGE_OF[command] for command in commands if shutil.which(command) is None})


def check(what: str, commands: Iterable[str], *, folder: Path, room: int) -> None:
    """Make sure that this machine can do `what`, and install the Debian packages of missing `commands`.

    `room` is the free space, in bytes, that the file system of `folder` must have. Raises TestbedError with everything
    that is missing, at once and before any change.
    """
    if problems := list(_problems(what, commands, folder, room)):
        raise TestbedError("\n".join(["This machine is not ready:", *(f"  - {each}" for each in problems)]))
    need(*commands)


def _problems(what: str, commands: Iterable[str], folder: Path, room: int) -> Iterator[str]:
    try:
        need_root(what)
    except TestbedError as error:
        yield str(error)
    else:
        if not _makes_namespaces():
            yield f"{what} needs namespaces, and this machine does not allow them (is it a restricted container?)."
    missing = missing_packages(*commands)
    if missing and not _installs_packages():
        yield _these_are_missing(missing)
    if problem := lack_of_room(folder, room):
        yield problem


def lack_of_room(folder: Path, room: int) -> str | None:
    """Return a problem and its remedy if the file system of `folder` (need not exist) has under `room` bytes free."""
    there = next(each for each in (folder, *folder.parents) if each.exists())
    free = shutil.disk_usage(there).free
    if free >= room:
        return None
    return (
        f"{there} has {free / 1e9:.1f} GB free, but {room / 1e9:.1f} GB are needed. Free some space, or set "
        "PORTSIDE_CACHE to a folder elsewhere."
    )


def _makes_namespaces() -> bool:
    tried = subprocess.run(["unshare", "--mount", "--net", "--pid", "--fork", "true"], capture_output=True, check=False)
    return tried.returncode == 0


def _installs_packages() -> bool:
    return shutil.which("apt-get") is not None and os.geteuid() == 0


def _these_are_missing(packages: list[str]) -> str:
    names = " ".join(packages)
    return f"These packages are missing: {names}. Install them (on Debian: apt-get install {names})."


def need(*commands: str) -> None:
    """Make sure that `commands` exist: name the Debian packages of missing ones, and install them (as root).

    Raises TestbedError when they cannot be installed.
    """
    missing = missing_packages(*commands)
    if not missing:
        return
    if not _installs_packages():
        raise TestbedError(_these_are_missing(missing))
    names = " ".join(missing)
    say(f"Missing Debian packages are installed on this machine, and stay installed: {names}")
    with step(f"Installing Debian packages: {names}"):
        install = ["apt-get", "install", "-y", "-q", "--no-install-recommends", *missing]
        if _apt(install).returncode != 0:
            _apt(["apt-get", "update", "-q"])  # an outdated list names versions that are gone
            done = _apt(install)
            if done.returncode != 0:
                raise TestbedError(f"apt-get could not install {names}:\n{done.stdout.strip()[-2000:]}")


def unpacked(package: str, program: str) -> Path:
    """Return the path of `program` from a Debian package that is unpacked into our cache, but not installed.

    For packages that would start a service of their own. Raises TestbedError when the package is unavailable.
    """
    folder = paths.cache() / "debian" / package
    if not folder.exists():
        with step(f"Extracting {program} from the Debian package {package}"):
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
            raise TestbedError(f"apt-get could not download {package} (is the network up?):\n{done.stdout[-1000:]}")
    [archive] = partial.glob("*.deb")
    subprocess.run(["dpkg-deb", "--extract", archive, partial], check=True)
    partial.rename(folder)  # a whole package or none


def docker_works() -> bool:
    """Return whether a Docker daemon answers on this machine."""
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
