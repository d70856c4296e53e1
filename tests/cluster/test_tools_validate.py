"""`agent-operator validate` accepts and rejects what `kubectl apply --dry-run=server` does, with the same values."""

import io
import json
import re
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from agent_operator.api.validation import without_nulls
from agent_operator.tools.documents import read_agents
from agent_operator.tools.validate import Remark, validate
from support.operator import Namespace, install_definition
from testbed import binaries
from testbed.cluster import Cluster
from unit.operator.strategies import agents

EXAMPLES = 100
# Integers above it have no exact representation in double precision.
LARGEST_EXACT = 2**53

# Scalars that YAML parsers disagree about, and values that are invalid nearly everywhere.
SCALARS = (
    "1234e56 12e5 1e3 1E1 0x1F 0o17 017 0888 0b11 1_000 +3 -0 1. .5 2.0 1.5 1e400 1e21 18446744073709551616 y Y n on "
    "No True ~ null .inf .nan 12:30:45 2026-11-29 1.10 !!str\\ 5 !!int\\ '3' '5' \"1e3\" text {} [] [null] [{}] "
    "{a:\\ null} -1 99999"
)
RAW = [each.replace("\x00", " ") for each in SCALARS.replace("\\ ", "\x00").split()]


class Raw(str):
    """Text that is written to a file unchanged."""


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the paths of all values below, except the name, by which the test finds the object."""
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        if (*path, key) not in {("metadata",), ("apiVersion",), ("kind",)}:
            yield (*path, key)
            yield from _places(child, (*path, key))


def _at(value: Any, path: Sequence[Any]) -> Any:
    for key in path:
        value = value[key]
    return value


def _replaced(chance: Random, document: dict[str, Any]) -> None:
    """Replace a value at a random path."""
    if places := list(_places(document)):
        *path, key = chance.choice(places)
        _at(document, path)[key] = Raw(chance.choice(RAW))


def _removed(chance: Random, document: dict[str, Any]) -> None:
    if places := list(_places(document)):
        *path, key = chance.choice(places)
        del _at(document, path)[key]


def _repeated(chance: Random, document: dict[str, Any]) -> None:
    """Duplicate an entry of a list."""
    lists = [
        value for value in (_at(document, place) for place in _places(document)) if isinstance(value, list) and value
    ]
    if lists:
        entries = chance.choice(lists)
        entries.append(json.loads(json.dumps(chance.choice(entries))))


def _added(chance: Random, document: dict[str, Any]) -> None:
    """Add a field to an object."""
    objects = [document, document["metadata"], *(_at(document, place) for place in _places(document))]
    field = chance.choice(
        ["more", "labels", "annotations", "namespace", "status", "finalizers", "operator", "max_tokens"]
    )
    chance.choice([each for each in objects if isinstance(each, dict)])[field] = Raw(chance.choice(RAW))


def _labelled(chance: Random, document: dict[str, Any]) -> None:
    key = chance.choice(["a", "a b", "Example.com/x", "example.com/x", "", "a/b/c", "1", "-a"])
    value = chance.choice(["", "a", "a b", "-", "é", Raw("1"), Raw("on"), Raw("~")])
    document["metadata"][chance.choice(["labels", "annotations"])] = {key: value}


EDITS: list[Callable[[Random, dict[str, Any]], None]] = [_replaced, _replaced, _removed, _repeated, _added, _labelled]


def documents(number: int) -> list[dict[str, Any]]:
    """Return valid documents, most with a change or two, some of which make them invalid; the same on every run."""
    found: list[dict[str, Any]] = []

    @settings(
        max_examples=number,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(agents())
    def collect(document: dict[str, Any]) -> None:
        found.append(document)

    collect()
    chance = Random(0)  # noqa: S311  no secret
    for index, document in enumerate(found):
        document["metadata"]["name"] = f"n{index}"
        for edit in chance.choices(EDITS, k=chance.choice([0, 1, 1, 2])):
            edit(chance, document)
    return found


def written(value: Any) -> str:
    """Return the document as YAML in flow style."""
    if isinstance(value, Raw):
        return value
    if isinstance(value, dict):
        return "{" + ", ".join(f"{written(key)}: {written(child)}" for key, child in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(written, value)) + "]"
    text = json.dumps(value, ensure_ascii=False)
    return re.sub("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]", lambda match: f"\\u{ord(match[0]):04x}", text)


@pytest.fixture
def here(control_plane: Cluster, namespace: str) -> Namespace:
    """A fresh namespace of a cluster that has the definition; no operator runs."""
    install_definition(control_plane)
    return Namespace(control_plane, namespace)


def test_a_generated_document_is_validated_and_read_as_in_a_dry_run(here: Namespace, tmp_path: Path) -> None:
    files = {f"n{index}": tmp_path / f"n{index}.yaml" for index in range(EXAMPLES)}
    for file, document in zip(files.values(), documents(EXAMPLES), strict=False):
        file.write_text(f"# YAML\n{written(document)}\n", encoding="utf-8")
    taken, refusals = dry_run(here, tmp_path)
    wrong = [difference(file, name, here.name, taken, refusals) for name, file in files.items()]
    assert list(filter(None, wrong)) == []
    assert len(files) / 4 < len(taken) < len(files) * 9 / 10, "both kinds of documents are tried"


def dry_run(here: Namespace, folder: Path) -> tuple[dict[str, dict[str, Any]], str]:
    """Return the objects that the API server would create from the files, by name, and its errors for the others."""
    # `create` prints each object as it proceeds, where `apply` prints none of them if one is rejected.
    command: list[str | Path] = [
        binaries.provide("kubectl")["kubectl"],
        "create",
        "--dry-run=server",
        "-ojson",
        "-n",
        here.name,
    ]
    environment = here.cluster.environment
    done = subprocess.run(
        [*command, "-f", str(folder)], env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    return {each["metadata"]["name"]: each for each in stream(done.stdout)}, done.stderr


def stream(text: str) -> Iterator[dict[str, Any]]:
    """Yield the JSON documents of a text, one after the other."""
    decoder = json.JSONDecoder()
    while text := text.strip():
        document, end = decoder.raw_decode(text)
        yield document
        text = text[end:]


def difference(file: Path, name: str, namespace: str, taken: dict[str, dict[str, Any]], refusals: str) -> str | None:
    """Return where `validate` differs from the dry run; None if both agree."""
    errors = [each for each in validate([str(file)], io.StringIO(), namespace=namespace).errors if not derived(each)]
    said = "; ".join(map(str, errors))
    if bool(errors) == (name in taken):
        why = " | ".join(line for line in refusals.splitlines() if f"/{name}.yaml" in line or f'"{name}"' in line)
        return f"{file.read_text()}: validate: {said or 'valid'}; dry run: {why or 'taken'}"
    if not errors:
        ((found,), _) = read_agents([str(file)], io.StringIO())
        if not within(without_nulls(found.document["spec"]), taken[name]["spec"]):
            return f"{file.read_text()}: read as {found.document['spec']}, and there as {taken[name]['spec']}"
    return None


def derived(remark: Remark) -> bool:
    """Return whether only the objects built from the agent have the fault."""
    return "must be less than or equal to the limit" in remark.message


def within(ours: Any, theirs: Any) -> bool:
    """Return whether theirs contains all of ours; it may have defaults in addition."""
    if isinstance(ours, dict):
        return isinstance(theirs, dict) and all(key in theirs and within(ours[key], theirs[key]) for key in ours)
    if isinstance(ours, list):
        return isinstance(theirs, list) and len(ours) == len(theirs) and all(map(within, ours, theirs))
    if type(ours) is float and type(theirs) is int:
        return ours == float(theirs) and ours > LARGEST_EXACT  # the API server writes it without an exponent
    return type(ours) is type(theirs) and bool(ours == theirs)
