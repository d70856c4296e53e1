"""What a node needs from the machine outside its namespaces, and how each change is reverted."""

import ipaddress
import json
import os
import subprocess
import time
from contextlib import AbstractContextManager, suppress
from pathlib import Path

from testbed.errors import TestbedError
from testbed.locks import exclusive

CGROUPS = Path("/sys/fs/cgroup")
SYSCTLS = Path("/proc/sys")
# RFC 2544 reserves 198.18.0.0/15 for tests: no real network uses it. A link takes four of its addresses.
LINKS = ipaddress.IPv4Network("198.18.0.0/24")
# Folders that the kubelet requires; the node mounts private ones over them.
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
RECORD = "kernel-settings.json"
CGROUP_REMOVAL_SECONDS = 10
CGROUP_PAUSE_SECONDS = 0.05


class Host:
    """This machine, as far as the cluster whose state is in `folder` changes it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._record = folder / RECORD
        self.cgroup = f"/portside-{folder.name}"

    def remember_settings(self) -> None:
        """Record the settings before the node changes them; `clean_up` restores them, also after a killed run.

        If another cluster has a node, its record is copied: that node may already have changed the settings.
        """
        with self._changing_settings():
            earlier = next(iter(self._other_records()), None)
            self._record.write_text(earlier.read_text() if earlier else json.dumps(_settings()))
            for each in KUBELET_FOLDERS:
                each.mkdir(exist_ok=True)

    def _other_records(self) -> list[Path]:
        """Return the records of the other clusters that have a node."""
        return [each for each in self._folder.parent.glob(f"*/{RECORD}") if each != self._record]

    def _changing_settings(self) -> AbstractContextManager[None]:
        return exclusive(self._folder.parent / ".settings.lock", "records or restores kernel settings")

    @property
    def is_changed(self) -> bool:
        """Whether there are changes to clean up."""
        return self._record.exists()

    def make_cgroups(self) -> None:
        """Make the parent of the pods' cgroups in each hierarchy (cgroups(7): one in version 2, many in version 1)."""
        for hierarchy in _hierarchies():
            (hierarchy / self.cgroup[1:]).mkdir(exist_ok=True)

    def make_link(self, pid: int) -> str:
        """Link this machine to the network namespace of process `pid`, and return the address of the namespace.

        No traffic is routed through the link: it carries requests from this machine to the node, and their answers.
        """
        for number, subnet in enumerate(LINKS.subnets(new_prefix=30)):
            ours, theirs = (f"{address}/{subnet.prefixlen}" for address in subnet.hosts())
            name = f"portside{number}"
            peer = ["peer", "name", "eth0", "netns", str(pid)]
            if _ip("link", "add", name, "type", "veth", *peer).returncode != 0:
                continue  # another cluster uses that name, and with it these addresses
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
        raise TestbedError(f"No free link is left in {LINKS}. Remove unused links named portside* (see `ip link`).")

    def clean_up(self) -> None:
        """Restore the machine once every process is gone (the link went with the namespace).

        What clusters share is restored by the last one. Removing a folder that another node has mounted over would end
        that mount (vfs_rmdir of Linux, "detach_mounts").
        """
        for hierarchy in _hierarchies():
            _remove_cgroups(hierarchy / self.cgroup[1:])
        with self._changing_settings():
            if self.is_changed and not self._other_records():
                _restore(json.loads(self._record.read_text()))
                for each in KUBELET_FOLDERS:
                    if each.exists() and not any(each.iterdir()):
                        each.rmdir()
            self._record.unlink(missing_ok=True)


def _ip(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)


def _settings() -> dict[str, str]:
    return {name: (SYSCTLS / name).read_text() for name in KERNEL_SETTINGS if (SYSCTLS / name).exists()}


def _restore(settings: dict[str, str]) -> None:
    for name, value in settings.items():
        if (SYSCTLS / name).read_text() != value:
            (SYSCTLS / name).write_text(value)


def _hierarchies() -> list[Path]:
    if (CGROUPS / "cgroup.controllers").exists():
        return [CGROUPS]
    return [each for each in CGROUPS.iterdir() if (each / "cgroup.procs").exists() and not each.is_symlink()]


def _remove_cgroups(top: Path) -> None:
    """Remove a tree of empty cgroups; the kernel may take a moment to notice that the last process is gone.

    Folders may vanish meanwhile, such as those of a pod whose last process ends. Raises TestbedError when a cgroup
    still has processes after CGROUP_REMOVAL_SECONDS.
    """
    deadline = time.monotonic() + CGROUP_REMOVAL_SECONDS
    while top.exists():
        # os.walk lists no subfolders for a folder that vanishes while it is being read (its `onerror`).
        for folder, _, _ in os.walk(top, topdown=False):
            with suppress(OSError):
                Path(folder).rmdir()
        if top.exists():
            if time.monotonic() > deadline:
                raise TestbedError(f"The cgroup {top} still has processes in it.")
            time.sleep(CGROUP_PAUSE_SECONDS)
