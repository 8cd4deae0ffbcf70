"""Fixtures of the browser tests: one server, one Chromium and one JupyterLab for all tests of a process."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
for folder in (HERE, HERE.parent / "unit"):
    sys.path.insert(0, str(folder))

from harness import LIKE_A_PERSON, ROOT, JupyterServer, Page, launch_chromium, open_page  # noqa: E402
from playwright.sync_api import Browser, sync_playwright  # noqa: E402


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Yield a running Chromium."""
    with sync_playwright() as playwright:
        # A page does not live long enough for the best machine code.
        browser = launch_chromium(playwright, "--js-flags=--no-opt")
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JupyterServer]:
    """Yield a JupyterLab server for an empty folder. It serves Notebook 7 too.

    The extension is where the wheel installs it. The kernels do not know that a test runs them.
    """
    root = tmp_path_factory.mktemp("notebooks")
    shutil.copytree(ROOT / "labextension", extension_of(root))
    server = JupyterServer(root, {**LIKE_A_PERSON, "NBCHAT_JOURNAL": "0"})
    yield server
    server.stop()


def extension_of(root: Path) -> Path:
    """Return the folder of nbchat's JupyterLab extension, for a server of the folder ``root``."""
    return root.parent / f"{root.name}-jupyter" / "data" / "labextensions" / "nbchat-prompts"


@pytest.fixture(scope="session")
def desk(server: JupyterServer, browser: Browser) -> Iterator[Page]:
    """Yield a page that stays open for all tests."""
    with open_page(server, browser) as page:
        yield page


@pytest.fixture
def page(desk: Page) -> Iterator[Page]:
    """Yield the page, without an open notebook. Its notebooks and kernels are closed after the test."""
    yield desk
    desk.clear()
    desk.server.shut_kernels()


@pytest.fixture
def new_page(server: JupyterServer, browser: Browser) -> Iterator[Page]:
    """Yield a page of its own, with new cookies, for a test that could disturb later ones, or be disturbed."""
    with open_page(server, browser) as page:
        yield page


@pytest.fixture
def plain_page(new_page: Page) -> Page:
    """Return a page of its own that cannot load nbchat's extension, as if it were not installed beside JupyterLab."""
    # The folder cannot be moved aside: an installation has one of its own, beside that of the tests.
    new_page.raw.route("**/extensions/nbchat-prompts/**", lambda route: route.abort())
    return new_page
