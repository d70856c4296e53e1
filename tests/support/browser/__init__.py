"""A real Chromium for the tests: Debian's, driven by Playwright."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from playwright.async_api import Browser, async_playwright, expect

from testbed import system
from testbed.errors import TestbedError

# Root cannot use the sandbox; the other options keep Chromium from contacting its vendor's servers.
_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

# Timeout for what a test expects: the machine may be busy. Playwright's default of 5 s suits idle machines.
_PATIENCE_SECONDS = 20


@asynccontextmanager
async def running_browser() -> AsyncIterator[Browser]:
    """Start Chromium with its own profile; install the Debian package if it is missing."""
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
