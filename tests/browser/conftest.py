"""Fixtures of the browser tests: one server, one Chromium and one JupyterLab for all tests."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
for folder in (HERE, HERE.parent / "unit"):
    sys.path.insert(0, str(folder))

from harness import LIKE_A_PERSON, JupyterServer, Page, launch_chromium, open_page  # noqa: E402
from playwright.sync_api import Browser, sync_playwright  # noqa: E402


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Yield a running Chromium."""
    with sync_playwright() as playwright:
        browser = launch_chromium(playwright)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JupyterServer]:
    """Yield a JupyterLab server for an empty folder. It serves Notebook 7 too."""
    server = JupyterServer(tmp_path_factory.mktemp("notebooks"))
    yield server
    server.stop()


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
    """Yield a page of its own, with new cookies, for a test that an earlier page could disturb."""
    with open_page(server, browser) as page:
        yield page


@pytest.fixture(scope="session")
def persons_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JupyterServer]:
    """Yield a server whose kernels do not know that a test runs them."""
    server = JupyterServer(tmp_path_factory.mktemp("person"), {**LIKE_A_PERSON, "NBCHAT_JOURNAL": "0"})
    yield server
    server.stop()


@pytest.fixture(scope="session")
def persons_desk(persons_server: JupyterServer, browser: Browser) -> Iterator[Page]:
    """Yield a page of that server, which stays open for all tests."""
    with open_page(persons_server, browser) as page:
        yield page


@pytest.fixture
def persons_page(persons_desk: Page) -> Iterator[Page]:
    """Yield that page, without an open notebook."""
    yield persons_desk
    persons_desk.clear()
    persons_desk.server.shut_kernels()
