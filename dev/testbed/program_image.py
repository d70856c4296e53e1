"""Images of a single file: a program with nothing around it. Ours are linked statically, so they need nothing else."""

import hashlib
import io
import json
import platform
import tarfile
import tempfile
from pathlib import Path

from testbed import binaries, paths
from testbed.cluster import Cluster


def load(cluster: Cluster, name: str) -> str:
    """Load the program `name` of `testbed.binaries` into the nodes, as an image with the program as its entry point.

    Return the image's reference, which changes with the program.
    """
    return load_file(cluster, name, binaries.provide(name)[name])


def load_file(cluster: Cluster, name: str, program: Path) -> str:
    """Load the program in this file, which is linked statically, in the same way; `name` is the name of the image."""
    with program.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    reference = f"portside.dev/{name}:{digest[:12]}"
    with tempfile.TemporaryDirectory(dir=paths.cache()) as folder:
        file = Path(folder) / f"{name}.tar"
        file.write_bytes(archive(reference, program))
        cluster.load_image(file)
    return reference


def archive(reference: str, program: Path) -> bytes:
    """Return an archive, as written by `docker save`, of an image of one file, with `program` as its entry point."""
    architecture = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    layer = _tar({program.name: program.read_bytes()})
    config = {
        "architecture": architecture,
        "os": "linux",
        "config": {"Entrypoint": [f"/{program.name}"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [reference], "Layers": ["layer.tar"]}]
    return _tar(
        {
            "layer.tar": layer,
            "config.json": json.dumps(config).encode(),
            "manifest.json": json.dumps(manifest).encode(),
        }
    )


def _tar(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            member.mode = 0o755
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()
