"""The commands of the documents, run in the order of each page exactly as written, on the cluster of
`make cluster-up`."""

import json
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.shell import run_block
from support.docs import NODE, Block, command_blocks, pages
from testbed.cluster import Cluster, OwnCluster
from testbed.paths import REPOSITORY

PAGES = {
    str(page.relative_to(REPOSITORY)): blocks
    for page in pages()
    if (blocks := [block for block in command_blocks(page) if block.run_by == NODE])
}


@pytest.fixture
def as_a_reader(playground_cluster: Cluster, tmp_path: Path) -> Iterator[Cluster]:
    """The cluster with a namespace for the page in place of `default`; what the page installs is removed with it."""
    name = f"docs-{uuid.uuid4().hex[:8]}"
    playground_cluster.kubectl("create", "namespace", name)
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_bytes(playground_cluster.kubeconfig.read_bytes())
    reader = Cluster(kubeconfig)
    reader.kubectl("config", "set-context", "--current", f"--namespace={name}")
    yield reader
    playground_cluster.kubectl("delete", "namespace", name, "--wait=false")


@pytest.mark.parametrize("blocks", PAGES.values(), ids=PAGES)
def test_the_commands_of_a_page_work(as_a_reader: Cluster, playground_cluster: Cluster, blocks: list[Block]) -> None:
    name = playground_cluster.name if isinstance(playground_cluster, OwnCluster) else ""
    said = run_block(as_a_reader, "\n".join(_announced(block) for block in blocks), name)
    for block in blocks:
        assert f"== {block.place}" in said, said


def _announced(block: Block) -> str:
    """Return the block preceded by a line that shows where it is when it fails."""
    return f"echo {json.dumps(f'== {block.place}')}\n{_commands(block)}"


def _commands(block: Block) -> str:
    """Return the commands of a block: in a console block, the lines after `$` with their continuations."""
    if block.language != "console":
        return block.text
    return "\n".join(line[2:] for line in block.text.splitlines() if line.startswith(("$ ", "> ")))
