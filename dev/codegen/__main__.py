"""`python -m codegen [--check] [PART…]`: write the generated files, or check them."""

from importlib import import_module
from pathlib import Path

import click

from testbed.errors import TestbedError
from testbed.paths import REPOSITORY

# The order matters: the install is rendered from the chart, which holds the definition and the dashboards as files.
PARTS = ("operator", "service", "metrics", "dashboards", "install", "folders")


@click.command()
@click.argument("parts", nargs=-1, type=click.Choice(PARTS))
@click.option("--check", is_flag=True, help="Write nothing; name the stale files, and exit 1 if there are any.")
@click.option(
    "--root",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=REPOSITORY,
    help="The checkout to write to; this one by default.",
)
def main(parts: tuple[str, ...], *, check: bool, root: Path) -> None:
    """Write the generated files of PARTS, of all parts by default."""
    stale = False
    for part in parts or PARTS:
        try:
            wanted: dict[str, str] = import_module(f"codegen.{part}").files(root)
        except TestbedError as error:
            raise click.ClickException(str(error)) from None
        for name, text in wanted.items():
            if _text(root / name) == text:
                continue
            stale = True
            if not check:
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                (root / name).write_text(text, encoding="utf-8")
            click.echo(f"{'Stale' if check else 'Wrote'}: {name}")
    if check and stale:
        click.echo("Run `make generate`, and commit what it writes.", err=True)
        raise SystemExit(1)


def _text(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None


if __name__ == "__main__":
    main()
