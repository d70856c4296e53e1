"""Kubeconfig files as kubectl reads them (kubectl: "Organizing Cluster Access Using kubeconfig Files").

The Kubernetes client for Python uses the last current-context of several files where kubectl uses the first. It also
continues as an anonymous user when a login plugin fails. Therefore this module reads and merges the files and runs the
plugins, and passes the result to the client.
"""

import asyncio
import base64
import json
import os
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from kubernetes.aio import client, config
from kubernetes.aio.config import ConfigException

from agent_operator.kube.proxy import ProxyError, proxy_for, usable_proxy

# These fields contain file paths, relative to the folder of the kubeconfig.
_PATHS = {"clusters": ("certificate-authority",), "users": ("client-certificate", "client-key", "tokenFile")}
_MEMBER = {"clusters": "cluster", "contexts": "context", "users": "user"}

# Legacy plugins that are part of the client; kubectl has dropped those of cloud providers.
_AUTH_PROVIDERS = frozenset({"gcp", "oidc"})

_LONGEST_WORDS = 300

_NO_USER = " none "

# `expanduser`, unlike Path.home, does not fail for a user without a home directory.
_USUAL = "~/.kube/config"


class KubeconfigError(Exception):
    """The files name no usable cluster. The message contains the reason."""


class NoContextError(KubeconfigError):
    """The files have no context with that name."""

    def __init__(self, context: str) -> None:
        super().__init__(f"the context {context} does not exist")
        self.context = context


class LoginError(KubeconfigError):
    """The login plugin of the kubeconfig failed. The message contains its name and its own message."""


@dataclass(frozen=True)
class Chosen:
    """The connection settings, and the namespace of the context."""

    settings: client.Configuration
    namespace: str


def in_cluster() -> bool:
    """Return whether the process runs in a pod and should use that pod's cluster."""
    return bool(os.environ.get("KUBERNETES_SERVICE_HOST")) and not named(os.environ.get("KUBECONFIG"))


def named(files: str | None) -> list[Path]:
    """Return the files of a list in the format of KUBECONFIG, without duplicates and empty entries."""
    parts = [part.strip() for part in (files or "").split(os.pathsep)]
    return [Path(os.path.expanduser(part)) for part in dict.fromkeys(parts) if part]


def chosen_files(files: str | None) -> list[Path]:
    """Return the files to read: the named ones, else those of KUBECONFIG, else the default one."""
    return named(files) or named(os.environ.get("KUBECONFIG")) or [Path(os.path.expanduser(_USUAL))]


def load_in_cluster() -> client.Configuration:
    """Return the settings of the pod's own service account.

    Raises:
        KubeconfigError: if there is no service account, or the environment names a proxy that cannot be used.
    """
    settings = client.Configuration()
    try:
        config.load_incluster_config(client_configuration=settings)  # type: ignore[no-untyped-call]
    except (ConfigException, OSError) as error:
        raise KubeconfigError(_line(str(error))) from error
    return _with_proxy(settings)


async def load(files: Iterable[Path], context: str | None = None) -> Chosen:
    """Return the settings of the cluster that the files name.

    Args:
        files: in order of precedence, highest first; missing files are skipped.
        context: name of the context; the current one if None.

    Raises:
        KubeconfigError: if the files name no cluster, or cannot be used. LoginError if the login fails.
    """
    merged = _merge([path for path in files if path.exists()])
    name = context or merged.get("current-context")
    if not name:
        raise KubeconfigError("current-context is not set: set it with `kubectl config use-context`")
    entry = _member(merged, "contexts", name)
    if entry is None:
        raise NoContextError(name)
    cluster = _member(merged, "clusters", entry.get("cluster"))
    if not cluster or not cluster.get("server"):
        raise KubeconfigError(f"the context {name} does not refer to a cluster with a server")
    user = _member(merged, "users", entry.get("user")) if entry.get("user") else {}
    if user is None:
        raise KubeconfigError(f"the context {name} refers to the user {entry['user']}, which does not exist")
    await _log_in(user, cluster)
    # The client requires a user even if the context has none.
    entry["user"] = entry.get("user") or _NO_USER
    merged["users"].append({"name": _NO_USER, "user": {}})
    merged["current-context"] = name
    settings = client.Configuration()
    try:
        await config.load_kube_config_from_dict(merged, context=name, client_configuration=settings)  # type: ignore[no-untyped-call]
    # Besides its own error, the client raises these for values of the wrong type.
    except (ConfigException, OSError, ValueError, TypeError, AttributeError, KeyError) as error:
        words = str(error) if isinstance(error, ConfigException | OSError) else "it contains an invalid value"
        raise KubeconfigError(_line(words)) from error
    if user.get("auth-provider") and not settings.api_key:
        raise LoginError(f"the auth-provider {user['auth-provider'].get('name')} returned no token: log in again")
    return Chosen(_with_proxy(settings), entry.get("namespace") or "default")


def _with_proxy(settings: client.Configuration) -> client.Configuration:
    """Set the proxy of the environment, for each connection made from the settings, if the kubeconfig names none."""
    try:
        own = settings.proxy
        settings.proxy = usable_proxy(own, "proxy-url") if own else proxy_for(settings.host)
    except ProxyError as error:
        raise KubeconfigError(str(error)) from error
    return settings


def _merge(files: list[Path]) -> dict[str, Any]:
    """Return the merged files. The first file that has a name, or a current-context, wins."""
    merged: dict[str, Any] = {"apiVersion": "v1", "kind": "Config", "clusters": [], "contexts": [], "users": []}
    for path in files:
        for key, value in _read(path).items():
            if key not in _MEMBER:
                merged.setdefault(key, value)
                continue
            known = {each["name"] for each in merged[key]}
            merged[key] += [_resolved(each, key, path) for each in value or [] if each["name"] not in known]
    return merged


def _read(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_bytes())
    except OSError as error:
        raise KubeconfigError(f"{path} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise KubeconfigError(f"{path} is not a kubeconfig: it is not YAML") from error
    if content is None:
        return {}
    lists = [content.get(key) or [] for key in _MEMBER] if isinstance(content, dict) else [[None]]
    if not all(
        isinstance(part, list) and all(isinstance(each, dict) and each.get("name") for each in part) for part in lists
    ):
        raise KubeconfigError(f"{path} is not a kubeconfig: it has no lists of clusters, contexts and users with names")
    # kubectl treats a null as absent.
    return {key: value for key, value in content.items() if value is not None}


def _resolved(entry: dict[str, Any], key: str, path: Path) -> dict[str, Any]:
    """Return an entry with absolute paths and without nulls."""
    inner = entry.get(_MEMBER[key]) or {}
    if not isinstance(inner, dict):
        raise KubeconfigError(f"{path} is not a kubeconfig: {entry['name']} in {key} has no fields")
    member = {name: value for name, value in inner.items() if value is not None}
    folder = path.absolute().parent
    for name in _PATHS.get(key, ()):
        if member.get(name):
            member[name] = str(folder / str(member[name]))
    plugin = member.get("exec")
    if isinstance(plugin, dict) and "/" in str(plugin.get("command")):
        member["exec"] = {**plugin, "command": str(folder / str(plugin["command"]))}
    return {"name": entry["name"], _MEMBER[key]: member}


def _member(merged: dict[str, Any], key: str, name: str | None) -> dict[str, Any] | None:
    return next((each[_MEMBER[key]] for each in merged[key] if each["name"] == name), None)


async def _log_in(user: dict[str, Any], cluster: dict[str, Any]) -> None:
    """Replace the user's login plugin with its output (Kubernetes: "client-go credential plugins")."""
    provider = user.get("auth-provider")
    if provider and provider.get("name") not in _AUTH_PROVIDERS:
        raise LoginError(f"the auth-provider {provider.get('name')} is not supported: use a login plugin (exec)")
    plugin = user.pop("exec", None)
    if plugin is None:
        return
    status = await _credential(plugin, cluster)
    for field, name in (
        ("clientCertificateData", "client-certificate-data"),
        ("clientKeyData", "client-key-data"),
    ):
        if status.get(field):
            user[name] = base64.b64encode(str(status[field]).encode()).decode()
    if status.get("token"):
        user["token"] = status["token"]


async def _credential(plugin: dict[str, Any], cluster: dict[str, Any]) -> dict[str, Any]:
    command, version = plugin.get("command"), plugin.get("apiVersion")
    if not command or not version:
        raise LoginError("the login plugin of the kubeconfig has no command or no apiVersion")
    shown = f"the login plugin {Path(str(command)).name}"
    variables = {str(each["name"]): str(each["value"]) for each in plugin.get("env") or []}
    interactive = plugin.get("interactiveMode") != "Never" and sys.stdin is not None and sys.stdin.isatty()
    spec: dict[str, Any] = {"interactive": interactive}
    if plugin.get("provideClusterInfo"):
        spec["cluster"] = _cluster_info(cluster)
    info = {"apiVersion": version, "kind": "ExecCredential", "spec": spec}
    try:
        process = await asyncio.create_subprocess_exec(
            str(command),
            *(str(each) for each in plugin.get("args") or []),
            env={**os.environ, **variables, "KUBERNETES_EXEC_INFO": json.dumps(info)},
            stdin=None if interactive else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    except (OSError, ValueError) as error:
        hint = f". {_line(str(plugin['installHint']))}" if plugin.get("installHint") else ""
        reason = getattr(error, "strerror", None) or "its command cannot be used"
        raise LoginError(f"{shown} could not be started: {reason}{hint}") from error
    output, words = await process.communicate()
    if process.returncode != 0:
        reason = _line(words.decode(errors="replace")) or "it printed no error message"
        raise LoginError(f"{shown} failed with exit code {process.returncode}: {reason}")
    try:
        answer = json.loads(output)
        status = answer["status"]
        usable = isinstance(status, dict) and bool(status.get("token") or status.get("clientCertificateData"))
    except (ValueError, KeyError, TypeError):
        # The output is not quoted, because it may still be a token.
        raise LoginError(f"{shown} printed no ExecCredential") from None
    if answer.get("apiVersion") != version:
        returned = _line(str(answer.get("apiVersion")))
        raise LoginError(f"{shown} returned apiVersion {returned}, but the kubeconfig specifies {version}")
    if not usable or bool(status.get("clientCertificateData")) != bool(status.get("clientKeyData")):
        raise LoginError(f"{shown} returned neither a token nor a certificate with its key")
    return dict(status)


def _cluster_info(cluster: dict[str, Any]) -> dict[str, Any]:
    """Return the cluster in the format that plugins read (client-go: ExecCredential, "spec.cluster")."""
    info = {name: cluster[name] for name in ("server", "tls-server-name", "proxy-url") if cluster.get(name)}
    if cluster.get("insecure-skip-tls-verify"):
        info["insecure-skip-tls-verify"] = True
    data, file = cluster.get("certificate-authority-data"), cluster.get("certificate-authority")
    if not data and file and Path(file).is_file():
        data = base64.b64encode(Path(file).read_bytes()).decode()
    if data:
        info["certificate-authority-data"] = data
    extension = next(
        (
            each.get("extension")
            for each in cluster.get("extensions") or []
            if each.get("name") == "client.authentication.k8s.io/exec"
        ),
        None,
    )
    return info if extension is None else {**info, "config": extension}


def _line(words: str) -> str:
    """Return external text as one line that cannot control a terminal."""
    return " ".join(re.sub(r"[\x00-\x1f\x7f-\x9f]", " ", words).split())[:_LONGEST_WORDS]
