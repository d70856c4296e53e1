"""A base image with Python for machines that reach no image registry: Debian's own packages, by debootstrap."""

import hashlib
import shutil
import subprocess
from pathlib import Path

from testbed import system
from testbed.console import step
from testbed.errors import TestbedError

SUITE = "trixie"
PACKAGES = ("python3", "python3-venv", "python3-pip", "ca-certificates")
# Downloads inside a build go where this machine's go, perhaps through a proxy: the base trusts what the machine trusts.
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
# Nothing of these is needed to run Python, and they are most of the base.
NOT_NEEDED = ("usr/share/doc", "usr/share/man", "usr/share/locale", "var/cache/apt", "var/lib/apt/lists", "var/log")


def buildah(storage: Path) -> list[str | Path]:
    """The beginning of every buildah command line: our own storage, so that the machine's is not touched."""
    return ["buildah", "--root", storage / "root", "--runroot", storage / "run", "--storage-driver", "overlay"]


def provide(storage: Path) -> str:
    """Give the reference of the base image in `storage`, made first if it is not there (about a minute).

    Raises TestbedError when Debian's packages cannot be had.
    """
    certificates = CERTIFICATES.read_bytes() if CERTIFICATES.exists() else b""
    recipe = hashlib.sha256(repr((SUITE, PACKAGES, NOT_NEEDED)).encode() + certificates).hexdigest()[:16]
    reference = f"portside.dev/python-base:{SUITE}-{recipe}"
    known = subprocess.run(
        [*buildah(storage), "inspect", "--type", "image", reference], capture_output=True, check=False
    )
    if known.returncode != 0:
        with step(f"Making a base image with Python from Debian {SUITE} (once; kept in the cache)"):
            _make(storage, reference)
    return reference


def _make(storage: Path, reference: str) -> None:
    system.need("debootstrap")
    root = storage / "base.partial"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    try:
        _run(["debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", SUITE, root])
        for unneeded in NOT_NEEDED:
            shutil.rmtree(root / unneeded, ignore_errors=True)
            (root / unneeded).mkdir()
        if CERTIFICATES.exists():
            shutil.copy(CERTIFICATES, root / CERTIFICATES.relative_to("/"))
        container = _run([*buildah(storage), "from", "scratch"]).strip()
        try:
            _run([*buildah(storage), "add", "--quiet", container, root, "/"])
            _run([*buildah(storage), "config", "--cmd", "python3", container])
            _run([*buildah(storage), "commit", "--quiet", container, reference])
        finally:
            _run([*buildah(storage), "rm", container])
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _run(command: list[str | Path]) -> str:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = "\n".join((done.stdout + done.stderr).splitlines()[-15:])
        raise TestbedError(f"`{' '.join(map(str, command))}` failed (is the network there?):\n{said}")
    return done.stdout
