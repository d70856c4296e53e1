"""Images of Debian's own packages, made by debootstrap where no registry is reachable: the base image with Python."""

import hashlib
import shutil
import tempfile
from pathlib import Path

from testbed import system
from testbed.buildah import CONTAINED, Buildah, run
from testbed.console import say, step
from testbed.errors import TestbedError
from testbed.together import StoppedError

SUITE = "trixie"
PACKAGES = ("python3", "python3-venv", "python3-pip", "ca-certificates")
# Downloads inside a build take the same route as this machine's, perhaps through a proxy: the base trusts the same CAs.
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
# Not needed to run Python, and a third of the base.
NOT_NEEDED = ("usr/share/doc", "usr/share/man", "usr/share/locale", "var/cache/apt", "var/lib/apt/lists", "var/log")
COMMANDS = ("debootstrap",)
# debootstrap gives up at the first of 70 downloads that fails, so a mirror that drops one connection would end a demo.
ATTEMPTS = 3
RECIPE = "FROM scratch\nCOPY root /\n"


def reference(name: str = "python-base", packages: tuple[str, ...] = PACKAGES) -> str:
    """Return the name of an image; it changes with all of its inputs except new releases of Debian's packages."""
    certificates = CERTIFICATES.read_bytes() if CERTIFICATES.exists() else b""
    recipe = hashlib.sha256(repr((SUITE, packages, NOT_NEEDED, RECIPE)).encode() + certificates).hexdigest()[:16]
    return f"portside.dev/{name}:{SUITE}-{recipe}"


def provide(buildah: Buildah, name: str = "python-base", packages: tuple[str, ...] = PACKAGES) -> None:
    """Make sure that `buildah` has the image, and make it if it is missing (about a minute).

    Raises TestbedError when Debian's packages are unavailable.
    """
    if not buildah.has(reference(name, packages)):
        with step(f"Building the image {name} from Debian {SUITE} (once; kept in the cache)"):
            _make(buildah, name, packages)


def _make(buildah: Buildah, name: str, packages: tuple[str, ...]) -> None:
    system.need(*COMMANDS)
    context = buildah.folder / "base.partial"
    log = buildah.folder / "debootstrap.log"
    log.unlink(missing_ok=True)
    shutil.rmtree(context, ignore_errors=True)  # left by a killed run
    try:
        root = context / "root"
        bootstrap(root, packages, log)
        for folder in NOT_NEEDED:
            shutil.rmtree(root / folder, ignore_errors=True)
            (root / folder).mkdir()
        if CERTIFICATES.exists():
            copy = root / CERTIFICATES.relative_to("/")
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(CERTIFICATES, copy)
        (context / "Dockerfile").write_text(RECIPE)
        buildah.build(reference(name, packages), context, [], log)
    finally:
        shutil.rmtree(context, ignore_errors=True)


def bootstrap(root: Path, packages: tuple[str, ...], log: Path) -> None:
    """Install Debian with `packages` in the folder `root`, which is created. A failure is retried.

    Raises TestbedError with the end of the log when the last attempt fails.
    """
    command = [*CONTAINED, "debootstrap", "--variant=minbase", f"--include={','.join(packages)}"]
    with tempfile.TemporaryDirectory(dir=log.parent) as downloads:
        for attempt in range(1, ATTEMPTS + 1):
            root.mkdir(parents=True)
            try:
                run([*command, f"--cache-dir={downloads}", SUITE, root], log)
            except TestbedError as error:
                if attempt == ATTEMPTS or isinstance(error, StoppedError):
                    raise
                say("    a download or an installation failed; trying again")
                shutil.rmtree(root)
            else:
                return
