"""A base image with Python for machines that reach no image registry: Debian's own packages, by debootstrap."""

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
RECIPE = 'FROM scratch\nCOPY root /\nCMD ["python3"]\n'


def reference() -> str:
    """The name of the base image; it changes with all that goes into it, but for new releases of Debian's packages."""
    certificates = CERTIFICATES.read_bytes() if CERTIFICATES.exists() else b""
    recipe = hashlib.sha256(repr((SUITE, PACKAGES, NOT_NEEDED, RECIPE)).encode() + certificates).hexdigest()[:16]
    return f"portside.dev/python-base:{SUITE}-{recipe}"


def provide(buildah: Buildah) -> None:
    """Make sure that `buildah` has the base image, made first if it is not there (about a minute).

    Raises TestbedError when Debian's packages cannot be had.
    """
    if not buildah.has(reference()):
        with step(f"Making a base image with Python from Debian {SUITE} (once; kept in the cache)"):
            _make(buildah)


def _make(buildah: Buildah) -> None:
    system.need("debootstrap")
    context = buildah.folder / "base.partial"
    log = buildah.folder / "debootstrap.log"
    log.unlink(missing_ok=True)
    shutil.rmtree(context, ignore_errors=True)  # of a run that was killed
    try:
        root = context / "root"
        root.mkdir(parents=True)
        include = f"--include={','.join(PACKAGES)}"
        run([*CONTAINED, "debootstrap", "--variant=minbase", include, SUITE, root], log)
        for folder in NOT_NEEDED:
            shutil.rmtree(root / folder, ignore_errors=True)
            (root / folder).mkdir()
        if CERTIFICATES.exists():
            shutil.copy(CERTIFICATES, root / CERTIFICATES.relative_to("/"))
        (context / "Dockerfile").write_text(RECIPE)
        buildah.build(reference(), context, [], log)
    finally:
        shutil.rmtree(context, ignore_errors=True)
