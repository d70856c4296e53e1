"""Strict JSON schemas of every kind that we write, for kubeconform: generated from each release's own definitions.

Strict: a field unknown to the release is a fault, where an API server without strict validation drops it.
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from agent_operator.api.crd import class_crd, crd
from testbed import modules, paths
from testbed.definitions import FOREIGN, definition
from testbed.locks import exclusive

Schema = dict[str, Any]

KUBERNETES = "k8s.io/kubernetes"
SWAGGER = "api/openapi-spec/swagger.json"
_REFERENCE = "#/definitions/"
# Increase it when this module generates different schemas from the same definitions.
_LAYOUT = "2"


def releases() -> list[str]:
    """Return the Kubernetes releases that are linted against, such as `1.30.14`, oldest first."""
    found = [version.removeprefix("v") for version in modules.versions(KUBERNETES)]
    return sorted(found, key=lambda version: [int(part) for part in version.split(".")])


def location() -> str:
    """Return where kubeconform finds a schema (its `-schema-location`); generate missing schemas first."""
    folder = _folder()
    if not folder.exists():
        with exclusive(folder.parent / "schemas.lock", "makes the same schemas"):
            if not folder.exists():
                _write(folder)
    return f"{folder}/{{{{ .NormalizedKubernetesVersion }}}}/{{{{ .ResourceKind }}}}{{{{ .KindSuffix }}}}.json"


def _folder() -> Path:
    what = (_LAYOUT, modules.PINS.read_text(), json.dumps([FOREIGN, crd(), class_crd()]))
    digest = hashlib.sha256("\n".join(what).encode())
    return paths.cache() / "schemas" / digest.hexdigest()[:16]


def _write(folder: Path) -> None:
    partial = folder.with_name(f"{folder.name}.partial")
    custom = [crd(), class_crd(), *(definition(kind) for kind in FOREIGN)]
    for release in releases():
        place = partial / f"v{release}"
        place.mkdir(parents=True, exist_ok=True)
        known = json.loads(modules.read(KUBERNETES, f"v{release}", SWAGGER))["definitions"]
        strict = {name: _strict(schema) for name, schema in known.items()}
        for name, content in [*_built_in(known, strict), *_custom(custom, strict)]:
            (place / name).write_text(json.dumps(content))
    partial.rename(folder)


def _built_in(known: dict[str, Schema], strict: dict[str, Schema]) -> Iterator[tuple[str, Schema]]:
    """Yield each kind of the release: the name of its file, and its schema with everything that it refers to."""
    for name, schema in known.items():
        for of in schema.get("x-kubernetes-group-version-kind", []):
            if "kind" in schema.get("properties", {}) and not of["kind"].endswith("List"):
                root = _of_kind(strict[name], of["group"], of["version"], of["kind"])
                yield _file(of["group"], of["version"], of["kind"]), _closed(root, strict)


def _custom(definitions: list[dict[str, Any]], strict: dict[str, Schema]) -> Iterator[tuple[str, Schema]]:
    for each in definitions:
        group, kind = each["spec"]["group"], each["spec"]["names"]["kind"]
        for version in each["spec"]["versions"]:
            root = _of_kind(_strict(version["schema"]["openAPIV3Schema"]), group, version["name"], kind)
            root["properties"]["metadata"] = {"$ref": f"{_REFERENCE}io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"}
            yield _file(group, version["name"], kind), _closed(root, strict)


def _file(group: str, version: str, kind: str) -> str:
    """Return a file name as kubeconform's ResourceKind and KindSuffix have it: the group's first word, the version."""
    parts = [kind, *([group.partition(".")[0]] if group else []), version]
    return f"{'-'.join(parts)}.json".lower()


def _of_kind(schema: Schema, group: str, version: str, kind: str) -> Schema:
    says = {"apiVersion": {"const": f"{group}/{version}" if group else version}, "kind": {"const": kind}}
    properties = {**schema["properties"], **says}
    return {**schema, "properties": properties, "required": sorted({*schema.get("required", []), *says})}


def _closed(root: Schema, definitions: dict[str, Schema]) -> Schema:
    """Return the schema with references replaced by their definitions: kubeconform reports no fault behind a reference.

    Only definitions that refer to themselves, such as JSONSchemaProps, remain references to what is added at the end.
    """
    needed: dict[str, Schema] = {}
    whole: Schema = _inlined(root, definitions, (), needed)
    return {"$schema": "http://json-schema.org/draft-07/schema#", **whole, "definitions": needed}


def _inlined(node: Any, definitions: dict[str, Schema], inside: tuple[str, ...], needed: dict[str, Schema]) -> Any:
    if isinstance(node, list):
        return [_inlined(each, definitions, inside, needed) for each in node]
    if not isinstance(node, dict):
        return node
    reference = node.get("$ref")
    if not isinstance(reference, str):
        return {key: _inlined(each, definitions, inside, needed) for key, each in node.items()}
    name = reference.removeprefix(_REFERENCE)
    if name not in inside:
        return _inlined(definitions[name], definitions, (*inside, name), needed)
    if name not in needed:
        needed[name] = {}  # filled in when it occurs inside itself
        needed[name] = _inlined(definitions[name], definitions, (name,), needed)
    return {"$ref": reference}


def _strict(schema: Schema) -> Schema:
    """Return the schema in plain JSON Schema: no other fields than those named, Kubernetes' extensions translated."""
    if schema.get("x-kubernetes-int-or-string") or schema.get("format") == "int-or-string":
        return {"type": ["integer", "string"]}
    # A quantity may be written as a number (resource.Quantity, UnmarshalJSON); the document declares string.
    if schema.get("description", "").startswith("Quantity is a fixed-point representation"):
        return {"type": ["string", "number"]}
    result = {key: value for key, value in schema.items() if key in _KEPT}
    for key in ("items", "additionalProperties"):
        if isinstance(result.get(key), dict):
            result[key] = _strict(result[key])
    for key in ("allOf", "anyOf", "oneOf"):
        if key in result:
            result[key] = [_loose(each) for each in result[key]]
    if "properties" in schema:
        result["properties"] = {name: _strict(each) for name, each in schema["properties"].items()}
        open_ended = schema.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in schema
        if not open_ended:
            result["additionalProperties"] = False
    if schema.get("nullable") and isinstance(result.get("type"), str):
        result["type"] = [result["type"], "null"]
    return result


def _loose(schema: Schema) -> Schema:
    """Return a branch of anyOf and the like: it constrains, and the enclosing schema defines which fields exist."""
    result = {key: value for key, value in schema.items() if key in (*_KEPT, "not")}
    if "properties" in result:
        result["properties"] = {name: _loose(each) for name, each in result["properties"].items()}
    return result


# Keywords with the same meaning in JSON Schema and OpenAPI. Descriptions are dropped (they are most of the text), and
# formats too: the API server accepts more as a date-time than JSON Schema does.
_KEPT = frozenset(
    {
        *("$ref", "additionalProperties", "allOf", "anyOf", "enum", "exclusiveMaximum", "exclusiveMinimum", "items"),
        *("maxItems", "maxLength", "maxProperties", "maximum", "minItems", "minLength", "minProperties", "minimum"),
        *("multipleOf", "oneOf", "pattern", "properties", "required", "type", "uniqueItems"),
    }
)
