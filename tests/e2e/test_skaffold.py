"""skaffold.yaml, as far as it can be tested without skaffold: what it installs, and how a change is synced.

skaffold itself is not available where the tests get their programs; its own schema accepted this file when it was
written.
"""

import io
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import yaml

from support.eventually import eventually
from testbed import binaries, images, paths
from testbed.cluster import Cluster

CONFIG: dict[str, Any] = yaml.safe_load((paths.REPOSITORY / "skaffold.yaml").read_text())
AGENT = "my-agent"
SECONDS = 90


def test_every_artifact_is_a_target_of_the_dockerfile_and_every_path_is_there() -> None:
    dockerfile = (paths.REPOSITORY / "Dockerfile").read_text()
    for artifact in CONFIG["build"]["artifacts"]:
        assert f" AS {artifact['docker']['target']}\n" in dockerfile
        assert images.TARGETS[artifact["docker"]["target"]] == artifact["image"]
    for release in _releases("dev"):
        for path in (release["chartPath"], *release.get("valuesFiles", [])):
            assert (paths.REPOSITORY / path).exists()


def test_the_charts_accept_what_run_installs(real_cluster: Cluster, namespace: str) -> None:
    for release in _releases("run"):
        objects = real_cluster.helm("template", release["name"], *_arguments(release), "-n", namespace)
        target = "operator" if release["name"] == "agent-operator" else "service"
        assert images.reference(target) in objects


def test_a_changed_file_is_in_use_without_a_new_container(real_cluster: Cluster, namespace: str) -> None:
    [agent] = [release for release in _releases("dev") if release["name"] == AGENT]
    real_cluster.helm("install", AGENT, *_arguments(agent), "-n", namespace, "--wait", f"--timeout={SECONDS}s")
    [before] = _containers(real_cluster, namespace)

    [service] = [each for each in CONFIG["build"]["artifacts"] if each["docker"]["target"] == "service"]
    sync = _patched("dev")["build"]["artifacts"][CONFIG["build"]["artifacts"].index(service)]["sync"]
    file = paths.REPOSITORY / "service" / "agent_service" / "agent" / "echo.py"
    [rule] = sync["manual"]
    place = Path(rule["dest"]) / file.relative_to(paths.REPOSITORY / rule["strip"])
    _put(real_cluster, namespace, place, file.read_text().replace("You said: ", "You wrote: "))
    [hook] = sync["hooks"]["after"]
    inside = ["exec", "-n", namespace, f"deployment/{AGENT}", "-c", hook["container"]["containerName"], "--"]
    real_cluster.kubectl(*inside, *hook["container"]["command"])

    def answer() -> str:
        return real_cluster.kubectl(*inside, "agent-service", "ask", "Hello", check=False)

    eventually(lambda: answer() == "You wrote: Hello\n", "the changed file is in use", SECONDS)
    assert _containers(real_cluster, namespace) == [before]


def _patched(profile: str) -> dict[str, Any]:
    """Return the configuration with a profile's patches (additions, in the form of RFC 6902) applied."""
    config: dict[str, Any] = yaml.safe_load(yaml.safe_dump(CONFIG))
    [chosen] = [each for each in config["profiles"] if each["name"] == profile]
    for patch in chosen.get("patches", []):
        assert patch["op"] == "add"
        *way, last = patch["path"].strip("/").split("/")
        place: Any = config
        for step in way:
            place = place[int(step)] if isinstance(place, list) else place[step]
        place[last] = patch["value"]
    return config


def _releases(profile: str) -> list[dict[str, Any]]:
    releases: list[dict[str, Any]] = _patched(profile)["manifests"]["helm"]["releases"]
    return releases


def _arguments(release: dict[str, Any]) -> list[str]:
    """Return the arguments that skaffold passes to helm for a release, with the available images in place of those it
    would build."""
    arguments = [str(paths.REPOSITORY / release["chartPath"])]
    for file in release.get("valuesFiles", []):
        arguments += ["--values", str(paths.REPOSITORY / file)]
    for name, value in release.get("setValues", {}).items():
        arguments += ["--set", f"{name}={value}"]
    for name, template in release.get("setValueTemplates", {}).items():
        arguments += ["--set", f"{name}={_image(template)}"]
    return arguments


def _image(template: str) -> str:
    target = "operator" if template.endswith("agent_operator}}") else "service"
    repository, tag = images.reference(target).split(":")
    return {"IMAGE_REPO": repository, "IMAGE_TAG": tag}.get(
        template[3:].partition("_portside")[0], f"{repository}:{tag}"
    )


def _containers(cluster: Cluster, namespace: str) -> list[str]:
    pods = cluster.get("pods", "-n", namespace, "-l", f"app.kubernetes.io/instance={AGENT}")["items"]
    return [each["containerID"] for pod in pods for each in pod["status"]["containerStatuses"]]


def _put(cluster: Cluster, namespace: str, place: Path, text: str) -> None:
    """Put a file into the container as skaffold does: as an archive, unpacked at the root by the container's tar."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        entry = tarfile.TarInfo(str(place).lstrip("/"))
        entry.size = len(text.encode())
        entry.mode = 0o644
        tar.addfile(entry, io.BytesIO(text.encode()))
    kubectl = str(binaries.provide("kubectl")["kubectl"])
    inside = [kubectl, "exec", "-i", "-n", namespace, f"deployment/{AGENT}", "-c", "agent", "--"]
    command = [*inside, "tar", "xmf", "-", "-C", "/", "--no-same-owner"]
    subprocess.run(command, env=cluster.environment, input=archive.getvalue(), check=True, timeout=60)
