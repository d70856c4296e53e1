"""What a node needs of the machine outside its namespaces, and how each piece is put back as it was."""

import ipaddress
import json
import os
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from testbed.errors import TestbedError

CGROUPS = Path("/sys/fs/cgroup")
# RFC 2544 sets 198.18.0.0/15 aside for tests: no real network has it. A link takes four addresses of it.
LINKS = ipaddress.IPv4Network("198.18.0.0/24")
# Folders that the kubelet insists on; the node mounts private ones over them.
KUBELET_FOLDERS = (Path("/var/lib/kubelet"),)
# The kubelet writes these for the whole machine (kubernetes/pkg/kubelet/cm, "setupKernelTunables").
KERNEL_SETTINGS = (
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
)
CGROUP_REMOVAL_SECONDS = 10
CGROUP_PAUSE_SECONDS = 0.05


class Host:
    """This machine, as far as the cluster whose state is in `folder` touches it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._settings = folder / "kernel-settings.json"
        self.cgroup = f"/portside-{folder.name}"

    def remember_settings(self) -> None:
        """Write down what the node will change, before it does; `clean_up` puts it back, also after a killed run."""
        settings = {name: _setting(name).read_text() for name in KERNEL_SETTINGS if _setting(name).exists()}
        self._settings.write_text(json.dumps(settings))
        for each in KUBELET_FOLDERS:
            each.mkdir(exist_ok=True)

    def make_cgroups(self) -> None:
        """Make the parent of the pods' cgroups, in each hierarchy (cgroups(7): one in version 2, many in version 1)."""
        for hierarchy in _hierarchies():
            (hierarchy / self.cgroup[1:]).mkdir(exist_ok=True)

    def make_link(self, pid: int) -> str:
        """Link this machine to the network namespace of process `pid`, and give the address that the namespace has.

        Nothing is routed through the link: it carries what this machine says to the node, and its answers.
        """
        for number, subnet in enumerate(LINKS.subnets(new_prefix=30)):
            ours, theirs = (f"{address}/{subnet.prefixlen}" for address in subnet.hosts())
            name = f"portside{number}"
            peer = ["peer", "name", "eth0", "netns", str(pid)]
            if _ip("link", "add", name, "type", "veth", *peer).returncode != 0:
                continue  # another cluster has that name, and with it these addresses
            inside = ["--target", str(pid), "--net", "ip"]
            for command in (
                ["ip", "address", "add", ours, "dev", name],
                ["ip", "link", "set", name, "up"],
                ["nsenter", *inside, "address", "add", theirs, "dev", "eth0"],
                ["nsenter", *inside, "link", "set", "eth0", "up"],
            ):
                done = subprocess.run(command, capture_output=True, text=True, check=False)
                if done.returncode != 0:
                    raise TestbedError(f"`{' '.join(command)}` failed: {done.stderr.strip()}")
            return theirs.split("/")[0]
        raise TestbedError(f"No free link is left in {LINKS}. See `ip link` for ones named portside*, and remove them.")

    def clean_up(self) -> None:
        """Put the machine back as it was, once every process is gone (the link went with the namespace)."""
        if self._settings.exists():
            for name, value in json.loads(self._settings.read_text()).items():
                if _setting(name).read_text() != value:
                    _setting(name).write_text(value)
        for hierarchy in _hierarchies():
            _remove_cgroups(hierarchy / self.cgroup[1:])
        for each in KUBELET_FOLDERS:
            if each.exists() and not any(each.iterdir()):
                each.rmdir()


def _ip(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)


def _setting(name: str) -> Path:
    return Path("/proc/sys") / name


def _hierarchies() -> list[Path]:
    if (CGROUPS / "cgroup.controllers").exists():
        return [CGROUPS]
    return [each for each in CGROUPS.iterdir() if (each / "cgroup.procs").exists() and not each.is_symlink()]


def _remove_cgroups(top: Path) -> None:
    """Remove a tree of empty cgroups; the kernel may take a moment to see that the last process is gone.

    Folders may vanish meanwhile, as those of a pod whose last process ends. Raises TestbedError when one still has
    processes after CGROUP_REMOVAL_SECONDS.
    """
    deadline = time.monotonic() + CGROUP_REMOVAL_SECONDS
    while top.exists():
        # A folder that vanishes while os.walk is in it has no subfolders to list (its `onerror`).
        for folder, _, _ in os.walk(top, topdown=False):
            with suppress(OSError):
                Path(folder).rmdir()
        if top.exists():
            if time.monotonic() > deadline:
                raise TestbedError(f"The cgroup {top} still has processes in it.")
            time.sleep(CGROUP_PAUSE_SECONDS)
