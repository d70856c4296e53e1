"""A Docker engine for the tests, without a registry: Debian's dockerd in namespaces that end with it.

Ports that its containers publish on 127.0.0.1 are reachable only from its network namespace (`Engine.inside`).
"""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from testbed import base_image, binaries, buildah, paths, system
from testbed.console import step
from testbed.errors import TestbedError
from testbed.locks import exclusive

START_SECONDS = 60
STOP_SECONDS = 60
# What replaces the images that compose.yaml names and that cannot be pulled: the same programs, from Debian.
OTHERS = ("nginx-light", "redis-server", "redis-tools")
OTHERS_NAME = "compose-stand-in"


class Engine:
    """A running dockerd: `docker` and `docker-compose` connect to it by `environment`."""

    def __init__(self, folder: Path, process: subprocess.Popen[bytes]) -> None:
        self._folder = folder
        self._process = process

    @property
    def environment(self) -> dict[str, str]:
        """The environment in which programs use this engine, without the caller's own settings for Docker."""
        own = {name: value for name, value in os.environ.items() if not name.startswith(("DOCKER_", "COMPOSE_"))}
        docker = system.unpacked("docker.io", "usr/bin/docker")
        path = f"{docker.parent}:{binaries.search_path('docker-compose')}:{own['PATH']}"
        return own | {"DOCKER_HOST": f"unix://{self._folder}/docker.sock", "PATH": path}

    def run(self, *command: str, cwd: Path | None = None, environment: dict[str, str] | None = None) -> str:
        """Run a command that uses the engine and return its output. Raises TestbedError with the output if it fails."""
        return _said(list(command), self.environment | (environment or {}), cwd)

    def inside(self, *command: str) -> str:
        """Run a command in the network namespace where the containers' published ports are."""
        return _said([*self._entered(), *command], dict(os.environ), None)

    def _entered(self) -> list[str]:
        return ["nsenter", "--target", str(self._inner()), "--net"]

    def _inner(self) -> int:
        """The process id of dockerd, a child of `unshare`."""
        pid = self._process.pid
        return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


@contextmanager
def running_engine() -> Iterator[Engine]:
    """Run an engine while the context is active. Raises TestbedError if it does not start."""
    system.need_root("A Docker engine")
    system.need("containerd", "ip", "iptables", "nsenter", "runc", "setpriv")
    programs = system.unpacked("docker.io", "usr/sbin/dockerd").parent
    folder = Path(tempfile.mkdtemp(prefix="portside-docker-"))
    command = [*_contained(), "bash", "-c", f"ip link set lo up; exec dockerd {_options(folder)}"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command,
            env=os.environ | {"PATH": f"{programs}:{programs.parent / 'bin'}:{os.environ['PATH']}"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    engine = Engine(folder, process)
    try:
        with step("Starting a Docker engine"):
            _await_start(engine, process, folder)
        yield engine
    finally:
        _stop(engine, process)
        shutil.rmtree(folder, ignore_errors=True)
        for cgroup in Path("/sys/fs/cgroup").glob(f"**/{_cgroup(folder)}"):
            cgroup.rmdir()


def provide_others() -> Path:
    """Return the archive of the image that replaces nginx and Redis; build it first if it is missing."""
    folder = paths.cache() / "images"
    folder.mkdir(parents=True, exist_ok=True)
    with exclusive(folder / ".lock", "builds the images"):
        builder = buildah.Buildah(folder)
        reference = base_image.reference(OTHERS_NAME, OTHERS)
        archive = folder / f"{reference.rpartition('/')[2].replace(':', '-')}.tar"
        if not archive.exists():
            builder.prepare()
            base_image.provide(builder, OTHERS_NAME, OTHERS)
            partial = archive.with_suffix(".partial")
            partial.unlink(missing_ok=True)
            builder.save(reference, partial, folder / "compose.log")
            partial.rename(archive)
    return archive


def others() -> str:
    """Return the name of that image."""
    return base_image.reference(OTHERS_NAME, OTHERS)


def _contained() -> list[str]:
    """Return a command that runs namespaces which end with this process, with all containers, mounts and rules."""
    namespaces = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    return ["setpriv", "--pdeathsig", "KILL", "--", *namespaces]


def _options(folder: Path) -> str:
    return (
        f"--data-root {folder}/data --exec-root {folder}/exec --pidfile {folder}/pid -H unix://{folder}/docker.sock "
        f"--exec-opt native.cgroupdriver=cgroupfs --cgroup-parent /{_cgroup(folder)}"
    )


def _cgroup(folder: Path) -> str:
    return folder.name


def _await_start(engine: Engine, process: subprocess.Popen[bytes], folder: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            engine.run("docker", "info")
        except TestbedError as error:
            if process.poll() is not None or time.monotonic() > deadline:
                end = "\n".join((folder / "log").read_text(errors="replace").splitlines()[-15:])
                raise TestbedError(f"The Docker engine did not start: {error}\n{end}") from None
            time.sleep(0.2)
        else:
            return


def _stop(engine: Engine, process: subprocess.Popen[bytes]) -> None:
    """Stop dockerd, which stops its containers; then what is left in its namespaces."""
    try:
        os.kill(engine._inner(), signal.SIGTERM)
        process.wait(STOP_SECONDS)
    except (IndexError, OSError, subprocess.TimeoutExpired):
        process.kill()
        process.wait()


def _said(command: list[str], environment: dict[str, str], cwd: Path | None) -> str:
    done = subprocess.run(
        command,
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    if done.returncode != 0:
        raise TestbedError(f"`{' '.join(command)}` ended with code {done.returncode}: {done.stdout.strip()[-3000:]}")
    return done.stdout
