"""In-process reads of a cluster's API: a poll takes 3 ms of CPU time, where kubectl takes 50 to 100 ms."""

import base64
import ssl
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import yaml

# One request for the kinds of all groups, the preferred version of each first (Kubernetes: "Aggregated discovery").
_DISCOVERY = {"Accept": "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"}
_SECONDS = 30
# Options of `kubectl get` that take a value, and the API's query parameter for each.
_OPTIONS = {
    "-n": "namespace",
    "--namespace": "namespace",
    "-l": "labelSelector",
    "--selector": "labelSelector",
    "--field-selector": "fieldSelector",
}


class NotServedError(Exception):
    """This reader cannot answer the request as kubectl would: use kubectl instead."""


@dataclass(frozen=True)
class Kind:
    """A kind of object: its API version, its name, its resource in paths of the API, and whether it is namespaced."""

    api_version: str
    kind: str
    resource: str
    namespaced: bool

    def path(self, namespace: str, name: str | None) -> str:
        """Return the path of the object, or of the list if `name` is None."""
        root = f"/apis/{self.api_version}" if "/" in self.api_version else f"/api/{self.api_version}"
        place = f"/namespaces/{namespace}" if self.namespaced else ""
        return f"{root}{place}/{self.resource}" + (f"/{name}" if name else "")


@dataclass(frozen=True)
class _Request:
    kind: str
    name: str | None
    namespace: str | None
    selectors: dict[str, str]
    ignore_missing: bool


class Api:
    """A reader of objects, like `kubectl get -ojson`, with the rights of `kubeconfig` (a certificate or a token)."""

    def __init__(self, kubeconfig: Path) -> None:
        context, cluster, user = _parts(yaml.safe_load(kubeconfig.read_text()))
        self._namespace: str = context.get("namespace", "default")
        headers = {"Authorization": f"Bearer {user['token']}"} if "token" in user else {}
        if "tls-server-name" in cluster or not ({"token", "client-certificate-data"} & user.keys()):
            raise NotServedError(str(kubeconfig))
        self._http = httpx.Client(
            base_url=cluster["server"], verify=_tls(cluster, user), headers=headers, timeout=_SECONDS, trust_env=False
        )
        self._kinds: dict[str, Kind] = {}

    def answers(self, path: str) -> bool:
        """Return whether the API server answers 200 to a GET of `path`."""
        try:
            return self._http.get(path).status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False

    def get(self, *arguments: str) -> dict[str, Any] | None:
        """Return the object or the list that `kubectl get` with these arguments prints.

        None when the object is missing under `--ignore-not-found`. Raises NotServedError when the answer is an error,
        or an option is not in `_OPTIONS`: kubectl then reports the exact error.
        """
        request = _parse(arguments)
        if "," in request.kind:
            return self._of_several(request)
        return self._get(request)

    def _of_several(self, request: _Request) -> dict[str, Any]:
        """Return the lists of several kinds, which are separated by commas, as one list."""
        if request.name:
            raise NotServedError(request.kind)
        lists = [self._get(replace(request, kind=kind)) for kind in request.kind.split(",")]
        return {"apiVersion": "v1", "kind": "List", "items": [item for each in lists if each for item in each["items"]]}

    def _get(self, request: _Request) -> dict[str, Any] | None:
        kind = self._kind(request.kind)
        path = kind.path(request.namespace or self._namespace, request.name)
        try:
            response = self._http.get(path, params=request.selectors)
        except httpx.HTTPError as error:
            raise NotServedError(str(error)) from None
        if response.status_code == httpx.codes.NOT_FOUND and request.ignore_missing and _is_object(response):
            return None
        if response.status_code != httpx.codes.OK:
            self._kinds = {}  # a definition may have been added or removed
            raise NotServedError(path)
        answer: dict[str, Any] = response.json()
        for each in [answer] if request.name else answer["items"]:
            each |= {"apiVersion": kind.api_version, "kind": kind.kind}
            each["metadata"].pop("managedFields", None)
        return answer

    def _kind(self, name: str) -> Kind:
        if name not in self._kinds:
            try:
                self._kinds = self._discovered()
            except (httpx.HTTPError, KeyError, ValueError) as error:
                raise NotServedError(str(error)) from None
        if name not in self._kinds:
            raise NotServedError(name)
        return self._kinds[name]

    def _discovered(self) -> dict[str, Kind]:
        found: dict[str, Kind] = {}
        for root in ("/api", "/apis"):
            for group in self._http.get(root, headers=_DISCOVERY).raise_for_status().json()["items"]:
                for version in group["versions"]:
                    _add(found, group["metadata"].get("name", ""), version)
        return found


def _add(found: dict[str, Kind], group: str, version: dict[str, Any]) -> None:
    """Add the kinds of a version under each of their names; entries of an earlier group or version stay."""
    api_version = f"{group}/{version['version']}" if group else version["version"]
    for each in version.get("resources", []):
        plural = each["resource"]
        kind = Kind(api_version, each["responseKind"]["kind"], plural, each["scope"] == "Namespaced")
        names = [plural, each.get("singularResource", ""), *each.get("shortNames", [])]
        for name in [*names, f"{plural}.{group}"]:
            found.setdefault(name, kind)


def _parse(arguments: tuple[str, ...]) -> _Request:
    words: list[str] = []
    options: dict[str, str] = {}
    ignore_missing = False
    rest = iter(arguments)
    for each in rest:
        name, equals, value = each.partition("=")
        if each == "--ignore-not-found":
            ignore_missing = True
        elif name in _OPTIONS:
            options[_OPTIONS[name]] = value if equals else next(rest)
        elif each.startswith("-"):
            raise NotServedError(each)
        else:
            words += each.split("/")
    if not words or len(words) > 2:
        raise NotServedError(" ".join(arguments))
    namespace = options.pop("namespace", None)
    return _Request(words[0], words[1] if words[1:] else None, namespace, options, ignore_missing)


def _is_object(response: httpx.Response) -> bool:
    """Return whether the 404 is about the object, and not about its kind, which the API may no longer serve."""
    try:
        return "name" in response.json().get("details", {})
    except ValueError:
        return False


def _parts(config: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Return the current context, its cluster and its user."""
    try:
        context = next(each["context"] for each in config["contexts"] if each["name"] == config["current-context"])
        cluster = next(each["cluster"] for each in config["clusters"] if each["name"] == context["cluster"])
        user = next(each["user"] for each in config["users"] if each["name"] == context["user"])
    except (KeyError, StopIteration, TypeError):
        raise NotServedError("the kubeconfig has no current context") from None
    return context, cluster, user


def _tls(cluster: dict[str, Any], user: dict[str, Any]) -> ssl.SSLContext:
    authority = cluster.get("certificate-authority-data")
    if authority is None:
        raise NotServedError("the kubeconfig has no certificate authority inline")
    tls = ssl.create_default_context(cadata=base64.b64decode(authority).decode())
    if "client-certificate-data" in user:
        # The standard library reads a key only from a file.
        with tempfile.NamedTemporaryFile() as pair:
            for part in ("client-certificate-data", "client-key-data"):
                pair.write(base64.b64decode(user[part]) + b"\n")
            pair.flush()
            tls.load_cert_chain(pair.name)
    return tls
