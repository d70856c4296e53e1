"""Files are read as kubectl reads them: the same documents, the same values, and the same refusals.

kubectl runs with `--local`, where it reads and prints objects without a cluster.
"""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from agent_operator.tools.kubectl_yaml import decode, read
from agent_operator.tools.yaml_nodes import UnreadableError
from testbed import binaries

HEAD = "apiVersion: example.com/v1\nkind: Thing\nmetadata: {name: NAME}\n"
JSON = '{"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "NAME"}, "data": DATA}'

# The characters of numbers, dates, booleans and indicators.
ALPHABET = "0123456789eExXoObB_+-.:yYnN~TZ tfaInsNul#'\"&*|>%@`,[]{}<=\\\t"
NUMERIC = "0123456789eExXoObB_+-."
RANDOM_SCALARS = 1500

SCALARS = """
1234e56 12e5 1e3 1E+3 1e400 1e21 1e20 0x1F 0X1f 0o17 0O17 017 0777 0888 08.5 0b101 0B1 0b-1 0b+1 -0b1 0b 0x 0o
1_000 1__0 1_ _1 +1_0 0x_1F 0_7 .5_0 ._5 .5 -.5 +.5 1. -0 -0.0 +3 - -- + . y Y n N yes YES yEs no on Off true
True tRUE ~ null Null nULL .inf +.Inf -.INF .nan NaN Infinity 12:30:45 190:20 2026-11-29 2026-1-2t1:2:3Z 1.10
1.0 9223372036854775807 9223372036854775808 -9223372036854775809 18446744073709551615 18446744073709551616
0xFFFFFFFFFFFFFFFFF 1e-7 = << !!str\\ 5 !!int\\ '5' !!int\\ x !!float\\ 5 !!float\\ 1e3 !!bool\\ yes !!null\\ ~
!!binary\\ aGk= !!binary\\ % !!timestamp\\ 2026-1-1 !foo\\ 5 !\\ 5 !\\ '5' '5' "1e3" "\\x41\\u263a"
"\\U0001F600" "\\ud83d\\ude00" &a\\ x *a *missing a#b a\\ #b a:b a:\\ b -a ?a ?\\ a @x `x %x | > [] {} [a {a
a\tb \ta a\t é 😀 a\u2028b a\x85b a\x07b
"""

DOCUMENTS = [
    "\ufeffHEADdata: 1\n",
    "---\nHEADdata: 1\n---\n---\n# nothing\n---\n",
    "--- # why\nHEADdata: 1\n",
    "--- {}\nHEAD",
    "HEADdata: 1\n--- x\n",
    "HEADdata: 1\n...\nnot: [read\n",
    "%YAML 1.1\n---\nHEAD",
    "HEADdata: |\n  a\n---\nx: [\n",
    "HEADdata:\n\ta: 1\n",
    "HEADdata:\n  - 1\t\n",
    "HEADdata: >-\n  a\n   b\n\n  c\n",
    "HEADdata: {a: 1, a: 2}\n",
    "HEADdata: {a: &a {x: 1}, b: *a}\n",
    "HEADdata: &a\n  b: *a\n",
    "HEADdata:\n  <<: [{a: 1, b: 2}, {a: 3, c: 4}]\n  b: 9\n",
    "HEADdata:\n  a: 5\n  <<: {a: 1}\n",
    "HEADdata:\n  <<: 5\n",
    "HEADdata: {~: 1}\n",
    "HEADdata: {[a]: 1}\n",
    "HEADdata: {1.10: a, 1e7: b, 0.00001: c, 123456.7: d, 1e6: e, 3.14159265: f, .inf: g, 0x10: h, on: i}\n",
    "HEADdata: !!set {a, b}\n",
    "HEADdata: {a: b?c}\n",
    'HEADdata: {"a":1,"b":[1,2,]}\n',
    "HEAD? data\n: 1\n",
    f"HEADdata: {'[' * 200}{']' * 200}\n",
    # Nine levels of nine aliases: a gigabyte.
    "HEADdata:\n  a0: &a0 [x]\n" + "".join(f"  a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10)),
    JSON.replace("DATA", '{"a": 1.0, "b": 1e3, "c": -0, "d": 12345678901234567890, "e": "\\ud83d\\ude00 \\ud83d"}'),
    JSON.replace("DATA", "1E400"),
    JSON.replace("DATA", "NaN"),
    JSON.replace("DATA", '"a\tb"'),
    JSON.replace("DATA", "1") + JSON.replace("DATA", "2"),
    JSON.replace("DATA", "1") + "\n---\nHEADdata: 2\n",
    "// why\n" + JSON.replace("DATA", "1"),
    "# why\n" + JSON.replace("DATA", "1.0"),
]


def test_scalars_are_read_as_kubectl_reads_them(tmp_path: Path) -> None:
    chance = Random(0)  # noqa: S311  no secret
    alphabets = [NUMERIC, ALPHABET]
    random = ["".join(chance.choices(alphabets[n % 2], k=chance.randint(1, 8))) for n in range(RANDOM_SCALARS)]
    # A blank in a scalar is escaped with a backslash.
    listed = SCALARS.strip("\n").replace("\\ ", "\x00").replace("\n", " ").split(" ")
    scalars = [each.replace("\x00", " ") for each in listed] + random
    texts = [f"HEADdata: {scalar}\n" for scalar in scalars] + [f"HEADdata:\n  {scalar}: 1\n" for scalar in scalars]
    compare(tmp_path, [text.encode() for text in texts])


def test_files_are_read_as_kubectl_reads_them(tmp_path: Path) -> None:
    files = [text.encode() for text in DOCUMENTS]
    files += [text.replace("\n", "\r\n").encode() for text in DOCUMENTS]
    files += [f"\ufeff{text}".encode("utf-16-le") for text in DOCUMENTS]
    files += [b"HEADdata: caf\xe9\n", b"\x00\x01", b"", b"---\n", b"text\n", b"- 1\n"]
    compare(tmp_path, files)


def compare(folder: Path, files: list[bytes]) -> None:
    """Read the files, with HEAD and NAME filled in, here and with kubectl, and fail with the differences."""
    ours: dict[str, list[Any]] = {}
    for index, file in enumerate(files):
        name = f"n{index}"
        data = filled(filled(file, "HEAD", HEAD), "NAME", name)
        (folder / f"{index:05}.yaml").write_bytes(data)
        ours[name] = [each.get("data") for each in readable(data) if isinstance(each, dict) and "kind" in each]
    command = [
        str(binaries.provide("kubectl")["kubectl"]),
        "annotate",
        "--local",
        "--dry-run=client",
        "-ojson",
        "a=b",
        "-f",
        str(folder),
    ]
    done = subprocess.run(command, capture_output=True, check=False, timeout=120)
    theirs: dict[str, list[Any]] = {name: [] for name in ours}
    for document in stream(done.stdout.decode()):
        theirs[document["metadata"]["name"]].append(document.get("data"))
    assert sum(map(bool, theirs.values())) > len(files) / 4, done.stderr.decode()[:2000]
    different = {name: (ours[name], theirs[name]) for name in ours if plain(ours[name]) != plain(theirs[name])}
    assert {files[int(name[1:])]: pair for name, pair in different.items()} == {}


def filled(data: bytes, word: str, text: str) -> bytes:
    """Return the file with the word replaced, in its own encoding and with its own line ends."""
    text = text.replace("\n", "\r\n") if b"\r\n" in data else text
    encoding = "utf-16-le" if data.startswith(b"\xff\xfe") else "utf-8"
    return data.replace(word.encode(encoding), text.encode(encoding))


def readable(data: bytes) -> Iterator[Any]:
    """Yield the documents up to the first fault."""
    try:
        for reading in read(decode(data)):
            yield reading.value
    except UnreadableError:
        return


def stream(text: str) -> Iterator[dict[str, Any]]:
    """Yield the JSON documents of a text, one after the other."""
    decoder = json.JSONDecoder()
    position = 0
    while position < len(text):
        document, position = decoder.raw_decode(text, position)
        yield document
        position += len(text[position : position + 2]) - len(text[position : position + 2].lstrip())


def plain(value: Any) -> str:
    """Return the value to compare: large numbers by size, in any form; `1` is not `true`."""
    if isinstance(value, list):
        return f"[{','.join(map(plain, value))}]"
    if isinstance(value, dict):
        return f"{{{','.join(f'{key}:{plain(value[key])}' for key in sorted(value))}}}"
    return repr(float(value)) if isinstance(value, int | float) and not isinstance(value, bool) else repr(value)


@pytest.mark.parametrize("text", ["a: " + "[" * 5000, "[" * 5000, '{"a": ' + "[" * 5000])
def test_a_file_that_is_nested_too_deeply_is_refused(text: str) -> None:
    with pytest.raises(UnreadableError):
        list(read(text))
