"""The release steps that do not depend on a forge: `python dev/release.py --help`."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import yaml

from testbed import binaries

ROOT = Path(__file__).resolve().parent.parent
CHARTS = ("agent", "agent-operator")
# A fixed timestamp makes the packages of the same charts identical (reproducible-builds.org, SOURCE_DATE_EPOCH).
EPOCH = "1767225600"


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Package the charts, print the release notes, and check that everything is ready for a release."""


@main.command()
@click.option("--into", type=click.Path(path_type=Path), default=ROOT / "build" / "charts", help="Output folder.")
def package(into: Path) -> None:
    """Package both charts."""
    shutil.rmtree(into, ignore_errors=True)
    into.mkdir(parents=True)
    helm = str(binaries.provide("helm")["helm"])
    for chart in CHARTS:
        command = [helm, "package", str(ROOT / "helm" / chart), "--destination", str(into)]
        done = subprocess.run(command, env={"SOURCE_DATE_EPOCH": EPOCH}, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise click.ClickException(done.stderr.strip())
    for archive in sorted(into.iterdir()):
        click.echo(archive)


@main.command()
@click.argument("version")
def notes(version: str) -> None:
    """Print the changelog's section of VERSION."""
    section = _section(version)
    if section is None:
        raise click.ClickException(f"CHANGELOG.md has no section ## {version}.")
    click.echo(section[1])


@main.command()
@click.argument("version")
def check(version: str) -> None:
    """Print each problem that blocks a release of VERSION, one per line, and exit with 1 if there are any."""
    faults = list(_faults(version))
    for fault in faults:
        click.echo(fault, err=True)
    sys.exit(1 if faults else 0)


def _faults(version: str) -> list[str]:
    found = []
    stated = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    if stated != version:
        found.append(f"pyproject.toml has version {stated}: set it to {version}, and run `make generate`.")
    for chart in CHARTS:
        about = yaml.safe_load((ROOT / "helm" / chart / "Chart.yaml").read_text())
        if {str(about["version"]), str(about["appVersion"])} != {version}:
            found.append(f"helm/{chart}/Chart.yaml has version {about['version']}: run `make generate`.")
    section = _section(version)
    if section is None:
        found.append(f"CHANGELOG.md has no section ## {version}: write it.")
    elif not re.fullmatch(r"\d{4}-\d\d-\d\d", section[0]):
        found.append(f"CHANGELOG.md has {version} ({section[0]}): set its date, as in ## {version} (2026-01-31).")
    if (ROOT / "releases" / version).exists():
        found.append(f"releases/{version} already exists: {version} was released. Use the next version.")
    return found


def _section(version: str) -> tuple[str, str] | None:
    """Return the text in parentheses after a version in the changelog, and the text of its section."""
    pattern = rf"^## {re.escape(version)} \(([^)]*)\)\n(.*?)(?=^## |\Z)"
    match = re.search(pattern, (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE | re.DOTALL)
    return (match[1], match[2].strip()) if match else None


if __name__ == "__main__":
    main()
