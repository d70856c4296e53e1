"""`python -m agent_service.reference [--check]`: write the references of settings, endpoints and metrics."""

from pathlib import Path

import click
from fastapi import FastAPI
from pydantic import SecretStr

from agent_service.app import create_app
from agent_service.config.settings import Settings
from agent_service.reference import endpoints, metrics, settings

ROOT = Path(__file__).resolve().parents[3]


def generated_files() -> dict[str, str]:
    """Every generated file: its path below the repository's root, and its content."""
    app = _app()
    return {
        "docs/reference/settings.md": settings.reference(),
        "docs/reference/endpoints.md": endpoints.reference(app.openapi()),
        "docs/reference/metrics.md": metrics.reference(app.state.components.metrics.registry),
    }


def _app() -> FastAPI:
    """Make an app that is never started. What this machine's environment says has no part in it."""
    told = Settings.model_construct(
        model_provider="echo", redis_url=SecretStr("redis://localhost"), api_keys=SecretStr("so-that-keys-are-told")
    )
    return create_app(told)


@click.command()
@click.option(
    "--check", is_flag=True, help="Write nothing; name the files that are stale, and exit 1 if there are any."
)
def main(*, check: bool) -> None:
    """Write the references of the agent API's settings, endpoints and metrics."""
    stale = {name: text for name, text in generated_files().items() if _read(ROOT / name) != text}
    for name, text in stale.items():
        if not check:
            (ROOT / name).parent.mkdir(parents=True, exist_ok=True)
            (ROOT / name).write_text(text, encoding="utf-8")
        click.echo(f"{'Stale' if check else 'Wrote'}: {name}")
    if check and stale:
        click.echo("Run `make generate`, and commit what it writes.", err=True)
        raise SystemExit(1)


def _read(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None


if __name__ == "__main__":
    main()
