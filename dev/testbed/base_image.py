"""Images for machines that reach no image registry, of Debian's own packages, by debootstrap: the base with Python."""

import hashlib
import shutil
from pathlib import Path

from testbed import system
from testbed.buildah import CONTAINED, Buildah, run
from testbed.console import step

SUITE = "trixie"
PACKAGES = ("python3", "python3-venv", "python3-pip", "ca-certificates")
# Downloads inside a build go where this machine's go, perhaps through a proxy: the base trusts what the machine trusts.
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
# None of this is needed to run Python, and it is a third of the base.
NOT_NEEDED = ("usr/share/doc", "usr/share/man", "usr/share/locale", "var/cache/apt", "var/lib/apt/lists", "var/log")
COMMANDS = ("debootstrap",)
RECIPE = "FROM scratch\nCOPY root /\n"


def reference(name: str = "python-base", packages: tuple[str, ...] = PACKAGES) -> str:
    """The name of an image; it changes with all that goes into it, but for new releases of Debian's packages."""
    certificates = CERTIFICATES.read_bytes() if CERTIFICATES.exists() else b""
    recipe = hashlib.sha256(repr((SUITE, packages, NOT_NEEDED, RECIPE)).encode() + certificates).hexdigest()[:16]
    return f"portside.dev/{name}:{SUITE}-{recipe}"


def provide(buildah: Buildah, name: str = "python-base", packages: tuple[str, ...] = PACKAGES) -> None:
    """Make sure that `buildah` has the image, made first if it is not there (about a minute).

    Raises TestbedError when Debian's packages cannot be had.
    """
    if not buildah.has(reference(name, packages)):
        with step(f"Making the image {name} from Debian {SUITE} (once; kept in the cache)"):
            _make(buildah, name, packages)


def _make(buildah: Buildah, name: str, packages: tuple[str, ...]) -> None:
    system.need(*COMMANDS)
    context = buildah.folder / "base.partial"
    log = buildah.folder / "debootstrap.log"
    log.unlink(missing_ok=True)
    shutil.rmtree(context, ignore_errors=True)  # of a run that was killed
    try:
        root = context / "root"
        root.mkdir(parents=True)
        include = f"--include={','.join(packages)}"
        run([*CONTAINED, "debootstrap", "--variant=minbase", include, SUITE, root], log)
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
