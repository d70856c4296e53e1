"""Faults of an object outside its spec for which the API server refuses it; for the spec, see api/agent.py. Pure."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from agent_operator.api.core_v1 import DNS_LABEL, LABEL_VALUE, MAX_KEY, QUALIFIED_NAME
from agent_operator.api.schema import VERBATIM, Schema, structural
from agent_operator.api.spec import AgentSpec
from agent_operator.api.validation import Fault

# apimachinery, meta/v1, ObjectMeta. Any other field is an error under kubectl's default, --validate=strict.
_TEXTS = ("name", "generateName", "namespace", "selfLink", "uid", "resourceVersion")
_TIMES = ("creationTimestamp", "deletionTimestamp")
_NUMBERS = ("generation", "deletionGracePeriodSeconds")
_LISTS = ("ownerReferences", "finalizers", "managedFields")
_MAPS = ("labels", "annotations")
_METADATA = {*_TEXTS, *_TIMES, *_NUMBERS, *_LISTS, *_MAPS}
_OBJECT = {"apiVersion", "kind", "metadata", "spec", "status"}

_KEY = re.compile(QUALIFIED_NAME.removesuffix("$") + r"\Z")
_VALUE = re.compile(LABEL_VALUE.removesuffix("$") + r"\Z")
_NAMESPACE = re.compile(DNS_LABEL.removesuffix("$") + r"\Z")
_MAX_LABEL = 63
# apimachinery, api/validation, TotalAnnotationSizeLimitB.
_MAX_ANNOTATIONS = 256 * 1024


def metadata_faults(document: Mapping[str, Any]) -> Iterator[Fault]:
    """Yield the faults of a document's top level and metadata, except names, and its unknown fields that are null.

    Elsewhere a null counts as absent (api/agent.py: `without_nulls`). An unknown field is a fault even if it is null.
    """
    yield from _unknown_nulls(document.get("spec"), structural(AgentSpec), "spec")
    yield from (
        Fault(field, "unknown field: check its spelling and place") for field in document if field not in _OBJECT
    )
    metadata = document.get("metadata")
    if not isinstance(metadata, Mapping):
        return
    for field, value in metadata.items():
        if field not in _METADATA:
            yield Fault(f"metadata.{field}", "unknown field: check its spelling and place")
        elif value is not None and (sentence := _type_fault(field, value)):
            yield Fault(f"metadata.{field}", sentence)
    namespace = metadata.get("namespace")
    if isinstance(namespace, str) and namespace and (len(namespace) > _MAX_LABEL or not _NAMESPACE.match(namespace)):
        yield Fault("metadata.namespace", "must be at most 63 lower-case letters, digits and '-': check it")
    for field in _MAPS:
        if isinstance(metadata.get(field), Mapping):
            yield from _map_faults(field, metadata[field])
    if isinstance(metadata.get("finalizers"), list):
        yield from _finalizer_faults(metadata["finalizers"])


def _unknown_nulls(value: Any, schema: Schema, path: str) -> Iterator[Fault]:
    if isinstance(value, Mapping):
        properties, further = schema.get("properties", {}), schema.get("additionalProperties")
        closed = "properties" in schema and not schema.get(VERBATIM) and further is None
        for name, child in value.items():
            inner = properties.get(name, further)
            if child is None and inner is None and closed:
                yield Fault(f"{path}.{name}", "unknown field: check its spelling and place")
            elif isinstance(inner, dict):
                yield from _unknown_nulls(child, inner, f"{path}.{name}")
    elif isinstance(value, list) and isinstance(schema.get("items"), dict):
        for index, child in enumerate(value):
            yield from _unknown_nulls(child, schema["items"], f"{path}[{index}]")


def _type_fault(field: str, value: Any) -> str | None:
    expected: tuple[type, str]
    if field in _TEXTS or field in _TIMES:
        expected = (str, "text: put it in quotes")
    elif field in _NUMBERS:
        expected = (int, "a whole number")
    else:
        expected = (list, "a list") if field in _LISTS else (Mapping, "a mapping")
    kind, words = expected
    return None if isinstance(value, kind) and not isinstance(value, bool) else f"must be {words}"


def _finalizer_faults(values: Sequence[Any]) -> Iterator[Fault]:
    for index, value in enumerate(values):
        # Go reads a null in a list of texts as an empty text.
        if not isinstance(value, str) or len(value) > MAX_KEY or not _KEY.match(value):
            yield Fault(f"metadata.finalizers[{index}]", "must be a qualified name like 'example.com/name'")


def _map_faults(field: str, values: Mapping[str, Any]) -> Iterator[Fault]:
    for key, value in values.items():
        path = f"metadata.{field}.{key}"
        # The keys of annotations are case-insensitive here (apimachinery, api/validation, ValidateAnnotations).
        if len(key) > MAX_KEY or not _KEY.match(key.lower() if field == "annotations" else key):
            yield Fault(
                path, "must be a qualified name: letters, digits, '-', '_' and '.', with a prefix like 'example.com/'"
            )
        if value is None:
            continue
        if not isinstance(value, str):
            yield Fault(path, "must be text: put it in quotes")
        elif field == "labels" and (len(value) > _MAX_LABEL or not _VALUE.match(value)):
            yield Fault(path, "must be a label value: at most 63 letters, digits, '-', '_' and '.'")
    texts = [text for pair in values.items() for text in pair if isinstance(text, str)]
    if field == "annotations" and sum(len(text.encode(errors="replace")) for text in texts) > _MAX_ANNOTATIONS:
        yield Fault("metadata.annotations", "must be at most 256 KiB in total: shorten them")
