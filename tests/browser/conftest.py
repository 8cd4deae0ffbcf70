"""Fixtures of the browser ring: one server and one Chromium for all its tests, a page for each."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
for folder in (HERE, HERE.parent / "unit"):
    sys.path.insert(0, str(folder))

from harness import JupyterServer, Page, launch_chromium, open_page  # noqa: E402
from playwright.sync_api import Browser, sync_playwright  # noqa: E402


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium."""
    with sync_playwright() as playwright:
        browser = launch_chromium(playwright)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JupyterServer]:
    """A JupyterLab server for an empty folder; it serves Notebook 7 too."""
    server = JupyterServer(tmp_path_factory.mktemp("notebooks"))
    yield server
    server.stop()


@pytest.fixture
def page(server: JupyterServer, browser: Browser) -> Iterator[Page]:
    """A page of its own, with new cookies; the kernels it started end with it."""
    with open_page(server, browser) as page:
        yield page
