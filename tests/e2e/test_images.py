"""The images built from the Dockerfile (docs/contributing/images.md): labels, contents, and that they run."""

import gzip
import json
import re
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

import pytest

from testbed.cluster import Cluster
from testbed.errors import TestbedError
from testbed.images import Image
from testbed.paths import REPOSITORY
from testbed.podspec import RESOURCES

SITE_PACKAGES = "opt/portside/lib/python3."
LARGEST_BYTES = 150_000_000
LIVENESS = {"agent-service": "/health/live", "agent-operator": "/healthz"}
UNCHECKED_HASH = (1).to_bytes(4, "little")  # the flags of a module that is valid whatever its file's mtime (PEP 552)
# A user that exists in no image; OpenShift assigns one to each namespace.
ANY_USER = 1000650000


@pytest.fixture(scope="session", params=["service", "operator"])
def image(request: pytest.FixtureRequest, built_images: list[Image]) -> Image:
    """Each image in turn."""
    return _named(f"agent-{request.param}", built_images)


def test_it_runs_as_a_numbered_user_and_checks_its_own_liveness(image: Image) -> None:
    config = _config(image)
    assert config["User"] == "10001:10001"
    assert config["Entrypoint"] == [_name(image)]
    assert LIVENESS[_name(image)] in config["Healthcheck"]["Test"][-1]
    assert config["StopSignal"] == "SIGTERM"
    labels = {name.removeprefix("org.opencontainers.image."): value for name, value in config["Labels"].items()}
    assert (labels["licenses"], labels["version"]) == ("Apache-2.0", version("portside"))
    assert all(labels[name] for name in ("title", "description", "base.name"))
    assert not [variable for variable in config["Env"] if variable.startswith("PIP_")]


def test_its_environment_has_its_dependencies_and_no_build_tools(image: Image) -> None:
    files = [name for layer in _layers(image) for name in layer]
    packages = _packages(files)
    assert {"agent_service", "agent_operator", "pydantic"} <= packages
    assert not {"pip", "setuptools", "hatchling", "pytest", "mypy"} & packages
    assert ("kopf" in packages) == (_name(image) == "agent-operator")
    assert ("fastapi" in packages) == (_name(image) == "agent-service")
    assert not [name for name in files if name.endswith(("bin/gcc", "bin/cc", "bin/make", "bin/g++"))]
    assert not [name for name in files if name.startswith(("source/", "project/", "requirements"))]


def test_it_is_small_enough_to_be_pulled_in_seconds(image: Image) -> None:
    assert len(gzip.compress(image.archive.read_bytes(), compresslevel=6)) < LARGEST_BYTES


def test_the_bill_of_materials_matches_its_contents(image: Image) -> None:
    make = subprocess.run(["make", "--silent", "sbom"], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    file = next(line for line in make.stdout.split() if _name(image) in line)
    bill = json.loads((REPOSITORY / file).read_text())
    listed = {(_normal(each["name"]), each["version"]) for each in bill["components"]}
    found = {tuple(name.split("/")[5].removesuffix(".dist-info").rsplit("-", 1)) for name in _metadata(image)}
    installed = {(_normal(name), number) for name, number in found} - {("portside", version("portside"))}
    # The bill covers every platform; packages for other platforms are not installed here.
    assert installed <= listed
    assert len(listed - installed) < len(listed) / 10


def test_its_modules_are_precompiled(image: Image) -> None:
    files = {name: content for layer in _layers(image) for name, content in layer.items()}
    modules = [name for name in files if name.startswith(SITE_PACKAGES) and name.endswith(".py")]
    assert modules
    stale = [name for name in modules if files.get(_compiled(name), b"")[4:8] != UNCHECKED_HASH]
    assert stale == []
    assert [name for name in files if "/asyncio/__pycache__/base_events." in name]


def test_its_last_layer_has_only_our_files_so_that_an_upgrade_pulls_little(image: Image) -> None:
    *others, last = _layers(image)
    ours = {"agent_service", "agent_operator", "portside", f"portside-{version('portside')}.dist-info"}
    assert _packages(list(last)) == ours
    assert not [layer for layer in others if ours & _packages(list(layer))]


@pytest.mark.parametrize("user", [None, ANY_USER], ids=["its-own-user", "any-user"])
def test_its_program_starts_on_a_read_only_root(
    real_cluster: Cluster, namespace: str, image: Image, user: int | None
) -> None:
    with _pod(real_cluster, namespace, image, "--version", user=user):
        done = "--for=jsonpath={.status.phase}=Succeeded"
        real_cluster.kubectl("wait", done, "pod/trial", "-n", namespace, "--timeout=60s")
        said = real_cluster.kubectl("logs", "trial", "-n", namespace).strip()
    assert said == f"{_name(image)}, version {version('portside')}"


@pytest.mark.parametrize("port", ["API_PORT", "PORT"], ids=["our-name", "as-platforms-say-it"])
def test_the_service_runs_as_any_user_with_only_tmp_writable_and_its_health_check_works(
    real_cluster: Cluster, namespace: str, built_images: list[Image], port: str
) -> None:
    image = _named("agent-service", built_images)
    # A proxy for the model API must not come between the health check and the process that it checks.
    environment = {"MODEL_PROVIDER": "echo", port: "9000", "HTTP_PROXY": "http://127.0.0.1:1"}
    with _pod(real_cluster, namespace, image, user=ANY_USER, environment=environment, ready="/health/ready", tmp=True):
        real_cluster.kubectl("wait", "--for=condition=Ready", "pod/trial", "-n", namespace, "--timeout=60s")
        check = _config(image)["Healthcheck"]["Test"][1:]
        inside = ["exec", "trial", "-n", namespace, "--"]
        real_cluster.kubectl(*inside, *check)
        with pytest.raises(TestbedError, match="refused"):
            real_cluster.kubectl(*inside, "env", f"{port}=1", *check)


@pytest.mark.usefixtures("operator")
def test_the_health_check_of_the_operator_works(real_cluster: Cluster, built_images: list[Image]) -> None:
    check = _config(_named("agent-operator", built_images))["Healthcheck"]["Test"][1:]
    inside = ["exec", "deployment/agent-operator", "-n", "portside-system", "--"]
    real_cluster.kubectl(*inside, *check)
    with pytest.raises(TestbedError, match="refused"):
        real_cluster.kubectl(*inside, "env", "AGENT_OPERATOR_HEALTH_PORT=1", *check)


@contextmanager
def _pod(
    cluster: Cluster,
    namespace: str,
    image: Image,
    *arguments: str,
    user: int | None,
    environment: dict[str, str] | None = None,
    ready: str | None = None,
    tmp: bool = False,
) -> Iterator[None]:
    """Return a pod `trial` of the image: a read-only root, run as `user` or as the image's own user.

    It has no volume, or with `tmp` an empty one at /tmp, like the pods of agents.
    """
    container: dict[str, Any] = {
        "name": "trial",
        "image": image.reference,
        "imagePullPolicy": "IfNotPresent",
        "args": list(arguments),
        "resources": RESOURCES,
        "env": [{"name": name, "value": value} for name, value in (environment or {}).items()],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
    }
    if ready:
        port = int(next(value for name, value in (environment or {}).items() if name.endswith("PORT")))
        container["readinessProbe"] = {"httpGet": {"path": ready, "port": port}, "periodSeconds": 1}
    if tmp:
        container["volumeMounts"] = [{"name": "tmp", "mountPath": "/tmp"}]  # noqa: S108  a folder of the pod
    security: dict[str, Any] = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    if user is not None:
        security["runAsUser"] = user
    spec = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 5,
        "securityContext": security,
        "containers": [container],
        "volumes": [{"name": "tmp", "emptyDir": {}}] if tmp else [],
    }
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "trial"}, "spec": spec}
    cluster.kubectl("create", "-n", namespace, "-f-", stdin=json.dumps(pod))
    yield
    cluster.kubectl("delete", "pod", "trial", "-n", namespace, "--wait=false")


def _named(name: str, images: list[Image]) -> Image:
    return next(image for image in images if _name(image) == name)


def _name(image: Image) -> str:
    return image.reference.rpartition("/")[2].partition(":")[0]


def _config(image: Image) -> dict[str, Any]:
    with tarfile.open(image.archive) as archive:
        manifest = json.load(_member(archive, "manifest.json"))
        config: dict[str, Any] = json.load(_member(archive, manifest[0]["Config"]))["config"]
    return config


def _layers(image: Image) -> list[dict[str, bytes]]:
    """Return the files of each layer, the base's first: their paths, and the first bytes of each."""
    with tarfile.open(image.archive) as archive:
        return [_files(archive, layer) for layer in json.load(_member(archive, "manifest.json"))[0]["Layers"]]


def _files(archive: tarfile.TarFile, layer: str) -> dict[str, bytes]:
    with tarfile.open(fileobj=_member(archive, layer)) as files:
        return {member.name.removeprefix("./"): _member(files, member).read(16) for member in files if member.isreg()}


def _member(archive: tarfile.TarFile, name: str | tarfile.TarInfo) -> Any:
    member = archive.extractfile(name)
    assert member is not None
    return member


def _packages(files: list[str]) -> set[str]:
    """Return the top folders of those of `files` that are in the environment's site-packages."""
    return {name.split("/")[5] for name in files if name.startswith(SITE_PACKAGES) and name.count("/") > 5}


def _metadata(image: Image) -> list[str]:
    """Return the files that record which packages are in the environment (PEP 376)."""
    files = [name for layer in _layers(image) for name in layer]
    return [name for name in files if name.startswith(SITE_PACKAGES) and name.endswith(".dist-info/METADATA")]


def _normal(name: str) -> str:
    """Return a package's name as indexes compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _compiled(module: str) -> str:
    """Return where Python expects the compiled form of `module` (PEP 3147)."""
    folder, _, name = module.rpartition("/")
    minor = module.removeprefix(SITE_PACKAGES).partition("/")[0]
    return f"{folder}/__pycache__/{name.removesuffix('.py')}.cpython-3{minor}.pyc"
