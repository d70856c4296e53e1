"""A real Chromium for the tests: Debian's, driven by Playwright."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from playwright.async_api import Browser, async_playwright, expect

from testbed import system
from testbed.errors import TestbedError

# As root there is no sandbox; the rest keeps it from looking for its maker's servers.
_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

# Of patience for what a test expects: a machine may have other work. Playwright's own 5 s are for idle ones.
_PATIENCE_SECONDS = 20


@asynccontextmanager
async def running_browser() -> AsyncIterator[Browser]:
    """Start a Chromium with a profile of its own, installing the Debian package where there is none."""
    system.need("chromium")
    program = shutil.which("chromium")
    if program is None:
        raise TestbedError("chromium is missing after its package was installed.")
    expect.set_options(timeout=_PATIENCE_SECONDS * 1000)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, headless=True, args=list(_FLAGS))
        try:
            yield browser
        finally:
            await browser.close()
