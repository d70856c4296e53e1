"""The images as they come out of the Dockerfile: what they say of themselves, and what is not in them."""

import json
import tarfile
from typing import Any

import pytest

from testbed.images import Image


@pytest.fixture(scope="session", params=["service", "operator"])
def image(request: pytest.FixtureRequest, built_images: list[Image]) -> Image:
    """Each image in turn."""
    return next(image for image in built_images if f"agent-{request.param}:" in image.reference)


def test_it_runs_as_a_numbered_user_and_checks_its_own_liveness(image: Image) -> None:
    config = _config(image)
    name = image.reference.partition("/")[2].partition(":")[0]
    assert config["User"] == "10001:10001"
    assert config["Entrypoint"] == [name]
    assert config["Healthcheck"]["Test"][:2] == ["CMD", "python"]
    path = {"agent-service": "/health/live", "agent-operator": "/healthz"}[name]
    assert path in config["Healthcheck"]["Test"][-1]
    assert config["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"


def test_its_environment_has_what_it_runs_and_nothing_to_build_with(image: Image) -> None:
    files = _files(image)
    packages = {name.split("/")[5] for name in files if name.startswith("opt/portside/lib/") and name.count("/") > 5}
    assert {"agent_service", "agent_operator", "pydantic"} <= packages
    assert not {"pip", "setuptools", "hatchling", "pytest", "mypy"} & packages
    assert ("kopf" in packages) == ("agent-operator" in image.reference)
    assert ("fastapi" in packages) == ("agent-service" in image.reference)
    assert not [name for name in files if name.endswith(("bin/gcc", "bin/cc", "bin/make", "bin/g++"))]


def test_its_modules_are_compiled_so_that_nothing_need_be_written(image: Image) -> None:
    files = _files(image)
    modules = [name for name in files if "/site-packages/pydantic/" in name and name.endswith(".pyc")]
    assert modules
    assert not [name for name in files if name.startswith(("source/", "wheels/", "requirements"))]


def _config(image: Image) -> dict[str, Any]:
    with tarfile.open(image.archive) as archive:
        manifest = json.load(_member(archive, "manifest.json"))
        config: dict[str, Any] = json.load(_member(archive, manifest[0]["Config"]))["config"]
    return config


def _files(image: Image) -> set[str]:
    """The paths of all files in all layers."""
    with tarfile.open(image.archive) as archive:
        names: set[str] = set()
        for layer in json.load(_member(archive, "manifest.json"))[0]["Layers"]:
            with tarfile.open(fileobj=_member(archive, layer)) as files:
                names.update(name.removeprefix("./") for name in files.getnames())
    return names


def _member(archive: tarfile.TarFile, name: str) -> Any:
    member = archive.extractfile(name)
    assert member is not None
    return member
