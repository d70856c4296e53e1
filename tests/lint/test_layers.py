"""Which parts of the product may import which: only parts listed before them, so that there are no cycles."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed.paths import REPOSITORY

# Each package with its parts, modules and folders, from the foundation up. A folder includes everything below it,
# except the folders that are listed themselves.
LAYERS = {
    "service/agent_service": (
        "paths",
        "child_process",
        "network",
        "config",
        "bounds",
        "lifecycle",
        "telemetry",
        "auth",
        "state",
        "agent",
        "agent.claude",
        "agent.identity",
        "agent.fallbacks",
        "agent.bedrock",
        "agent.vertex",
        "agent.foundry",
        "agent.endpoints",
        "runtime",
        "tooling",
        "limits",
        "chat",
        "tasks",
        "mcp_server",
        "gateway",
        "health",
        "middleware",
        "answering",
        "optional_parts",
        "components",
        "routes",
        "compat",
        "app",
        "worker_app",
        "server",
        "python_file",
        "client",
        "cli",
    ),
    # What users' files import: nothing of the service.
    "service/portside": ("models", "turn", "tools", ""),
    "operator/agent_operator": (
        "logs",
        "api",
        "manifests",
        "policy",
        "classes",
        "kube",
        "controller.status",
        "controller.metrics",
        "controller.signals",
        "controller.watch",
        "controller.reconcile",
        "controller",
        "tools",
        "cli",
    ),
}


def modules(package: Path) -> dict[str, Path]:
    """Return every module of a package with its file."""
    found = {}
    for path in package.rglob("*.py"):
        name = ".".join(path.relative_to(package.parent).with_suffix("").parts)
        found[name.removesuffix(".__init__")] = path
    return found


def imports(path: Path, known: dict[str, Path]) -> Iterator[str]:
    """Yield the modules of the same package that a file imports, at any place in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module in known:
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield name if name in known else node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)


def layer(module: str, layers: tuple[str, ...]) -> int:
    """Return the position of the innermost part that contains a module.

    0 is below all: the package itself, unless it is listed as an empty part because it exports from the others.
    """
    inner = module.partition(".")[2]
    if not inner and "" not in layers:
        return 0
    parts = [part for part in layers if inner == part or inner.startswith(f"{part}.")]
    assert parts, f"{module} is in no layer: add it to LAYERS"
    return layers.index(max(parts, key=len)) + 1


@pytest.mark.parametrize("package", LAYERS)
def test_a_part_imports_only_parts_below_it(package: str) -> None:
    layers, known = LAYERS[package], modules(REPOSITORY / package)
    upwards = [
        f"{module} imports {each}"
        for module, path in known.items()
        for each in imports(path, known)
        if layer(each, layers) > layer(module, layers)
    ]

    assert upwards == []


@pytest.mark.parametrize("package", LAYERS)
def test_modules_have_no_import_cycle(package: str) -> None:
    known = modules(REPOSITORY / package)
    left = {module: set(imports(path, known)) - {module} for module, path in known.items()}
    while free := [module for module, needed in left.items() if not needed & left.keys()]:
        for module in free:
            del left[module]

    assert left == {}, "each of these imports another of them"


@pytest.mark.parametrize("package", LAYERS)
def test_the_product_does_not_import_development_code(package: str) -> None:
    ours = {"agent_service", "agent_operator"} - {Path(package).name}
    tools = {each.name for folder in ("dev", "tests") for each in (REPOSITORY / folder).iterdir() if each.is_dir()}
    for module, path in modules(REPOSITORY / package).items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert not {name.partition(".")[0] for name in names} & (tools | ours), module


def walks() -> dict[str, list[Path]]:
    """Return the walks of docs/contributing/architecture.md: their files in order, by title."""
    page = REPOSITORY / "docs" / "contributing" / "architecture.md"
    text = page.read_text(encoding="utf-8")
    _, *sections = re.split(r"^### ", text.partition("## Four walks")[2].partition("\n## ")[0], flags=re.MULTILINE)
    return {
        section.partition("\n")[0]: [
            (page.parent / path).resolve() for path in re.findall(r"^\d+\. \[.*?\]\((.*?)\)", section, re.MULTILINE)
        ]
        for section in sections
    }


@pytest.mark.parametrize("title", walks())
def test_each_file_of_a_walk_imports_or_is_imported_by_an_earlier_one(title: str) -> None:
    files = walks()[title]
    known = {path: name for package in LAYERS for name, path in modules(REPOSITORY / package).items()}
    names = {name: path for path, name in known.items()}
    assert len(files) > 5
    for place, file in enumerate(files[1:], start=1):
        near = {known[other] for other in files[:place]}
        its = set(imports(file, names))
        others = {each for other in files[:place] for each in imports(other, names)}
        assert known[file] in others or near & its, f"{file.name} has nothing to do with what is before it"
