"""The runtime from a container: image, program, environment, port, probes and hardening."""

from dataclasses import dataclass
from typing import Any

from agent_operator.api.runtime import OUR_PORTS, TMP_DIR, Runtime
from agent_operator.tools.importing.draft import Draft, object_of, objects_of
from agent_operator.tools.importing.model_keys import environment, without_literal_keys

# Fields that a runtime has under the same name.
_SAME = ("image", "imagePullPolicy", "command", "args", "envFrom", "workingDir", "resources")
_CONVERTED = {
    *_SAME,
    "name",
    "env",
    "ports",
    "volumeMounts",
    "securityContext",
    "startupProbe",
    "readinessProbe",
    "livenessProbe",
}
# What the API server writes into every container.
_DEFAULTS = {"terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File"}
_ADVICE = {
    "lifecycle": "Portside stops the runtime after the agent has drained: handle SIGTERM in the program instead",
    "restartPolicy": "the runtime is always restarted",
}
# Settings of a pod's securityContext that a container has too. In the pod they would also apply to our own container.
_OF_CONTAINERS = {
    "runAsUser",
    "runAsGroup",
    "runAsNonRoot",
    "seLinuxOptions",
    "seccompProfile",
    "appArmorProfile",
    "windowsOptions",
}
HARDENED: dict[str, Any] = Runtime.model_fields["security_context"].default
DEFAULT_PORT: int = Runtime.model_fields["port"].default


@dataclass(frozen=True)
class Main:
    """The container that becomes the runtime: itself, its path in the source, and how it is called."""

    container: dict[str, Any]
    source: str
    protocol: str
    port: int | None = None


def convert_runtime(draft: Draft, main: Main, pod_security: dict[str, Any]) -> None:
    """Put the container into the draft as its runtime. `pod_security` is the securityContext of its pod."""
    container, source = main.container, main.source
    for field in _SAME:
        draft.put(f"runtime.{field}", container.get(field), f"{source}.{field}")
    draft.put("runtime.env", environment(draft, container.get("env"), f"{source}.env"), f"{source}.env")
    draft.put("runtime.protocol", main.protocol, "the protocol")
    _mounts(draft, main)
    _port(draft, main)
    _probes(draft, main)
    _security(draft, main, pod_security)
    for field, value in container.items():
        if field not in _CONVERTED and value not in (None, {}, [], False) and _DEFAULTS.get(field) != value:
            draft.lost(f"{source}.{field}", _ADVICE.get(field, "a runtime has no such field"))
    _keys(draft, main)


def convert_sidecar(draft: Draft, container: dict[str, Any], source: str) -> dict[str, Any]:
    """Return another container of the pod under a name that does not clash with those of Portside."""
    container = without_literal_keys(draft, container, source)
    if container.get("name") in ("agent", "runtime"):
        draft.note(f"{source}.name", "the names agent and runtime are Portside's own: the container got the suffix -2")
        return {**container, "name": f"{container['name']}-2"}
    return container


def _mounts(draft: Draft, main: Main) -> None:
    mounts = objects_of(main.container.get("volumeMounts"))
    path = f"{main.source}.volumeMounts"
    for each in mounts:
        if each.get("mountPath") == TMP_DIR:
            draft.lost(f"{path}[{each.get('name')}]", f"a runtime has a writable {TMP_DIR} of its own")
    draft.put("runtime.volumeMounts", [each for each in mounts if each.get("mountPath") != TMP_DIR], path)


def _port(draft: Draft, main: Main) -> None:
    ports = objects_of(main.container.get("ports"))
    port = main.port or next((each.get("containerPort") for each in ports), None)
    path = f"{main.source}.ports"
    if port in OUR_PORTS:
        draft.lost(
            path,
            f"port {port} is one of Portside's own container: let the program listen on the port in the variable PORT "
            f"({DEFAULT_PORT}), or set runtime.port to the one that it listens on",
        )
    elif port is None:
        draft.note(path, f"the container declares no port: set runtime.port unless it listens on {DEFAULT_PORT}")
    else:
        draft.put("runtime.port", port, path)
    for each in ports:
        other = each.get("containerPort")
        if other != port:
            draft.lost(f"{path}[{other}]", "an agent serves one port; another one can be reached inside the pod only")


def _probes(draft: Draft, main: Main) -> None:
    source, container = main.source, main.container
    readiness, liveness = object_of(container.get("readinessProbe")), object_of(container.get("livenessProbe"))
    chosen, name = (readiness, "readinessProbe") if readiness.get("httpGet") else (liveness, "livenessProbe")
    path = object_of(chosen.get("httpGet")).get("path")
    if path is not None:
        draft.put("runtime.healthPath", path, f"{source}.{name}.httpGet.path")
    elif readiness or liveness:
        draft.lost(
            f"{source}.{'readinessProbe' if readiness else 'livenessProbe'}",
            "Portside checks the runtime over HTTP: set runtime.healthPath to a path that responds with 200",
        )
    elif main.protocol == "http":
        draft.note(
            source, "it has no HTTP probe: set runtime.healthPath to a path that responds with 200, if / does not"
        )
    startup = object_of(container.get("startupProbe"))
    if startup:
        seconds = _number(startup, "initialDelaySeconds", 0)
        seconds += _number(startup, "periodSeconds", 10) * _number(startup, "failureThreshold", 3)
        draft.put("runtime.startupSeconds", max(seconds, 1), f"{source}.startupProbe")


def _number(probe: dict[str, Any], field: str, default: int) -> int:
    value = probe.get(field)
    return value if isinstance(value, int) and not isinstance(value, bool) else default


def _security(draft: Draft, main: Main, pod_security: dict[str, Any]) -> None:
    path = f"{main.source}.securityContext"
    of_pod = {key: value for key, value in pod_security.items() if key in _OF_CONTAINERS}
    given = of_pod | object_of(main.container.get("securityContext"))
    if given:
        draft.put("runtime.securityContext", HARDENED | given, path)
    missing = [key for key in HARDENED if key not in given]
    if missing:
        draft.note(
            path,
            "a runtime is hardened by default: no root, no privileges, a read-only root file system (/tmp is "
            "writable). If the image needs more, set runtime.securityContext",
        )


def _keys(draft: Draft, main: Main) -> None:
    """Note what the key of the model API is, if none was found."""
    if "apiKey" in draft.spec:
        return
    for index, each in enumerate(objects_of(main.container.get("envFrom"))):
        if each.get("secretRef"):
            draft.note(
                f"{main.source}.envFrom[{index}].secretRef",
                "if this Secret contains ANTHROPIC_API_KEY, set apiKey.secretName to its name and remove it here, so "
                "that the gateway holds the key and the runtime does not",
            )
