"""Files of other projects' Go modules, such as their definitions: downloaded once, verified by hash, never committed.

`modules.txt` pins each module; `go mod download` gets it from the source of Go's own modules (GOPROXY).
"""

import json
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import yaml

from testbed import golang, paths
from testbed.console import step
from testbed.errors import TestbedError
from testbed.locks import exclusive

PINS = Path(__file__).with_name("modules.txt")


def versions(module: str) -> list[str]:
    """Return the pinned versions of a module, such as `v1.30.14`, as `modules.txt` lists them."""
    return [version for name, version, _ in _pins() if name == module]


def read(module: str, version: str, path: str) -> bytes:
    """Return a file of a pinned module; it is kept in the cache.

    Raises TestbedError when the module is not pinned, is unavailable, or is not the one that was pinned.
    """
    pinned = next((hashed for name, which, hashed in _pins() if (name, which) == (module, version)), None)
    if pinned is None:
        raise TestbedError(f"{PINS} does not pin {module} {version}.")
    # The hash names the folder, so that another pin never finds the old file.
    kept = paths.cache() / "modules" / pinned.removeprefix("h1:").replace("/", "_").rstrip("=") / path
    if not kept.exists():
        with exclusive(paths.cache() / "modules.lock", "downloads the same files"):
            if not kept.exists():
                _keep(module, version, pinned, path, kept)
    return kept.read_bytes()


def definitions(module: str, path: str) -> list[dict[str, Any]]:
    """Return the CustomResourceDefinitions in a file of the module's only pinned version."""
    [version] = versions(module)
    return [each for each in yaml.load_all(read(module, version, path), Loader=_Loader) if each]


# libyaml if PyYAML was built with it: these files are long.
_Loader: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _pins() -> list[tuple[str, str, str]]:
    lines = [line.split() for line in PINS.read_text().splitlines() if line and not line.startswith("#")]
    return [(name, version, hashed) for name, version, hashed in lines]


def _keep(module: str, version: str, pinned: str, path: str, kept: Path) -> None:
    with step(f"Getting {path} of {module} {version}"):
        archive = _download(module, version, pinned)
        with zipfile.ZipFile(archive) as files:
            content = files.read(f"{module}@{version}/{path}")
        kept.parent.mkdir(parents=True, exist_ok=True)
        partial = kept.with_name(f"{kept.name}.partial")
        partial.write_bytes(content)
        partial.rename(kept)


def _download(module: str, version: str, pinned: str) -> Path:
    """Download the module with Go, and return the path of its archive."""
    # The hash that we pin replaces the checksum database.
    environment = golang.environment() | {"GOSUMDB": "off", "GO111MODULE": "on", "GOFLAGS": "-modcacherw"}
    command = ["go", "mod", "download", "-json", f"{module}@{version}"]
    done = subprocess.run(
        command, env=environment, cwd=paths.cache(), capture_output=True, text=True, timeout=600, check=False
    )
    result: dict[str, str] = json.loads(done.stdout) if done.stdout.strip() else {"Error": done.stderr.strip()}
    if "Zip" not in result:
        message = f"{module} {version} could not be downloaded (is the network up? GOPROXY): {result.get('Error')}"
        raise TestbedError(message)
    if result["Sum"] != pinned:
        raise TestbedError(f"{module} {version} is not the one that {PINS} pins: its hash is {result['Sum']}.")
    return Path(result["Zip"])
