"""The references of settings and endpoints in `docs/reference`."""

from pathlib import Path

from fastapi import FastAPI
from pydantic import SecretStr

from agent_service.app import create_app
from agent_service.config.settings import Settings
from codegen.service import endpoints, settings


def files(_: Path) -> dict[str, str]:
    """Return every generated file: its path below the repository's root, mapped to its content."""
    return {
        "docs/reference/settings.md": settings.reference(),
        "docs/reference/endpoints.md": endpoints.reference(documented_app().openapi()),
    }


def documented_app() -> FastAPI:
    """Return an app that is never started. This machine's environment does not affect it."""
    documented = Settings.model_construct(
        model_provider="echo", redis_url=SecretStr("redis://localhost"), api_keys=SecretStr("documents-the-keys")
    )
    return create_app(documented)
